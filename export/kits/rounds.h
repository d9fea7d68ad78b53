/* What a runtime's part gives to rounds.c: one opened model. */
#ifndef HWNAS_ROUNDS_H
#define HWNAS_ROUNDS_H
#include <stddef.h>

typedef struct Model Model;

/* Each ends the process by fail() where the runtime refuses. */
Model *model_open(const char *path, int threads, int profiled);
/* Host memory of the first input while it is filled, and its size in bytes. */
void *model_input(Model *model, size_t *bytes);
void model_input_done(Model *model);
void model_run(Model *model);
void model_write_output(Model *model, const char *path);
/* Runs so often; writes a line for each run: {"operators":[{"name","kind","provider","elapsed_us"}]} */
void model_print_operators(Model *model, int runs);
const char *runtime_version(void);

/* Write {"error":..., "file":...} and exit with status 1; file may be NULL. */
void fail(const char *file, const char *why, int code);
void print_quoted(const char *text);
#endif
