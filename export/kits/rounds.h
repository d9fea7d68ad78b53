/* What a runtime's part gives to rounds.c: one opened model. */
#ifndef HWNAS_ROUNDS_H
#define HWNAS_ROUNDS_H
#include <stddef.h>

typedef struct Model Model;

/* Each ends the process by fail() where the runtime refuses. */
Model *model_open(const char *path, int threads, int profiled);
size_t model_input_count(const Model *model);
size_t model_output_count(const Model *model);
/* Host memory of an input while it is filled, its size in bytes, and whether noise may fill it: indices are 0. */
void *model_input(Model *model, size_t index, size_t *bytes, int *noisy);
void model_input_done(Model *model, size_t index);
void model_run(Model *model);
void model_write_output(Model *model, size_t index, const char *path);
/* Runs so often; writes a line for each run: {"operators":[{"name","kind","provider","elapsed_us"}]} */
void model_print_operators(Model *model, int runs);
const char *runtime_version(void);

/* Write {"error":..., "file":...} and exit with status 1; file may be NULL. */
void fail(const char *file, const char *why, int code);
void print_quoted(const char *text);
#endif
