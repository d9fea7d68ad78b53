/* LiteRT's part of the native runner, on the C API of libLiteRt.so of ai-edge-litert 2.3.
 *
 * The wheel carries no headers: the prototypes below are written by hand, all handles are opaque.
 * The API is not stable yet: older libraries take no environment to open a model (compile with
 * -DMODEL_WITHOUT_ENVIRONMENT), so a runner belongs to the library it was built against.
 */
#define _GNU_SOURCE
#include "rounds.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LITERT_VERSION
#define LITERT_VERSION "libLiteRt, native runner"
#endif

typedef int Status;
typedef void *Handle;
Status LiteRtCreateEnvironment(int, const void *, Handle *);
#ifdef MODEL_WITHOUT_ENVIRONMENT
Status LiteRtCreateModelFromFile(const char *, Handle *);
#define OPEN(environment, path, model) LiteRtCreateModelFromFile(path, model)
#else
Status LiteRtCreateModelFromFile(Handle, const char *, Handle *);
#define OPEN(environment, path, model) LiteRtCreateModelFromFile(environment, path, model)
#endif
Status LiteRtCreateOptions(Handle *);
Status LiteRtSetOptionsHardwareAccelerators(Handle, int);
Status LiteRtCreateOpaqueOptions(const char *, void *, void (*)(void *), Handle *);
Status LiteRtAddOpaqueOptions(Handle, Handle);
Status LiteRtCreateCompiledModel(Handle, Handle, Handle, Handle *);
Status LiteRtGetModelSignature(Handle, size_t, Handle *);
Status LiteRtGetNumSignatureInputs(Handle, size_t *);
Status LiteRtGetNumSignatureOutputs(Handle, size_t *);
Status LiteRtGetSignatureInputTensorByIndex(Handle, size_t, Handle *);
Status LiteRtGetSignatureOutputTensorByIndex(Handle, size_t, Handle *);
Status LiteRtGetRankedTensorType(Handle, void *);
Status LiteRtGetCompiledModelInputBufferRequirements(Handle, size_t, size_t, Handle *);
Status LiteRtGetCompiledModelOutputBufferRequirements(Handle, size_t, size_t, Handle *);
Status LiteRtCreateManagedTensorBufferFromRequirements(Handle, const void *, Handle, Handle *);
Status LiteRtGetTensorBufferPackedSize(Handle, size_t *);
Status LiteRtLockTensorBuffer(Handle, void **, int);
Status LiteRtUnlockTensorBuffer(Handle);
Status LiteRtRunCompiledModel(Handle, size_t, size_t, Handle *, size_t, Handle *);
Status LiteRtCompiledModelGetProfiler(Handle, Handle *);
Status LiteRtResetProfiler(Handle);
Status LiteRtStartProfiler(Handle);
Status LiteRtStopProfiler(Handle);
Status LiteRtGetNumProfilerEvents(Handle, int *);
Status LiteRtGetProfilerEvents(Handle, int, void *);

#define MOST_TENSORS 16
enum { LOCK_READ = 0, LOCK_WRITE = 1, ON_CPU = 1, OPERATOR_EVENT = 2, DELEGATED_EVENT = 8 };
enum { FLOAT32 = 1, UINT8 = 3, INT8 = 9 };

typedef struct {
  const char *tag;
  int type;
  uint64_t start_us, elapsed_us;
  int64_t memory[6];
  uint64_t metadata[2];
  int source;
} Event;

struct Model {
  const char *path;
  Handle compiled, buffers[2][MOST_TENSORS]; /* inputs, outputs */
  size_t counts[2];
  int noisy[MOST_TENSORS];
};

static Handle environment;

#define OK(call)                                        \
  do {                                                  \
    int status_ = (call);                               \
    if (status_) fail(made->path, "LiteRT refuses it: " #call, status_); \
  } while (0)

const char *runtime_version(void) { return LITERT_VERSION; }

static void add_options(Model *made, Handle options, const char *kind, const char *toml) {
  Handle opaque;
  OK(LiteRtCreateOpaqueOptions(kind, strdup(toml), free, &opaque));
  OK(LiteRtAddOpaqueOptions(options, opaque));
}

static void make_buffer(Model *made, Handle signature, int output, size_t index) {
  Handle tensor, needs;
  uint64_t type[64] = {0};
  if (output) {
    OK(LiteRtGetSignatureOutputTensorByIndex(signature, index, &tensor));
    OK(LiteRtGetCompiledModelOutputBufferRequirements(made->compiled, 0, index, &needs));
  } else {
    OK(LiteRtGetSignatureInputTensorByIndex(signature, index, &tensor));
    OK(LiteRtGetCompiledModelInputBufferRequirements(made->compiled, 0, index, &needs));
  }
  OK(LiteRtGetRankedTensorType(tensor, type));
  int element = (int)(uint32_t)type[0]; /* the first field */
  if (!output) made->noisy[index] = element == FLOAT32 || element == UINT8 || element == INT8;
  OK(LiteRtCreateManagedTensorBufferFromRequirements(environment, type, needs, &made->buffers[output][index]));
}

Model *model_open(const char *path, int threads, int profiled) {
  Model *made = calloc(1, sizeof *made);
  Handle model, options, signature;
  char toml[64];
  made->path = path;
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened on the device", 0);
  fclose(file);
  if (!environment) OK(LiteRtCreateEnvironment(0, NULL, &environment));
  OK(OPEN(environment, path, &model));
  OK(LiteRtCreateOptions(&options));
  OK(LiteRtSetOptionsHardwareAccelerators(options, ON_CPU));
  snprintf(toml, sizeof toml, "num_threads = %d\n", threads);
  add_options(made, options, "xnnpack", toml);
  if (profiled) add_options(made, options, "runtime_options_string", "enable_profiling = true\n");
  OK(LiteRtCreateCompiledModel(environment, model, options, &made->compiled));
  OK(LiteRtGetModelSignature(model, 0, &signature));
  OK(LiteRtGetNumSignatureInputs(signature, &made->counts[0]));
  OK(LiteRtGetNumSignatureOutputs(signature, &made->counts[1]));
  for (int output = 0; output < 2; output++) {
    if (made->counts[output] < 1 || made->counts[output] > MOST_TENSORS)
      fail(path, "has no input or output, or too many", 0);
    for (size_t i = 0; i < made->counts[output]; i++) make_buffer(made, signature, output, i);
  }
  return made;
}

size_t model_input_count(const Model *made) { return made->counts[0]; }

size_t model_output_count(const Model *made) { return made->counts[1]; }

void *model_input(Model *made, size_t index, size_t *bytes, int *noisy) {
  void *data;
  *noisy = made->noisy[index];
  OK(LiteRtGetTensorBufferPackedSize(made->buffers[0][index], bytes));
  OK(LiteRtLockTensorBuffer(made->buffers[0][index], &data, LOCK_WRITE));
  return data;
}

void model_input_done(Model *made, size_t index) { OK(LiteRtUnlockTensorBuffer(made->buffers[0][index])); }

void model_run(Model *made) {
  OK(LiteRtRunCompiledModel(made->compiled, 0, made->counts[0], made->buffers[0], made->counts[1],
                            made->buffers[1]));
}

void model_write_output(Model *made, size_t index, const char *path) {
  void *data;
  size_t bytes;
  OK(LiteRtGetTensorBufferPackedSize(made->buffers[1][index], &bytes));
  OK(LiteRtLockTensorBuffer(made->buffers[1][index], &data, LOCK_READ));
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) fail(path, "cannot be written", 0);
  OK(LiteRtUnlockTensorBuffer(made->buffers[1][index]));
}

/* the operators inside a delegate where it tells of them, else those of the graph */
static void print_run(Model *made, Handle profiler) {
  int count = 0, printed = 0, inside = 0;
  OK(LiteRtGetNumProfilerEvents(profiler, &count));
  Event *events = calloc((size_t)count + 1, sizeof *events);
  OK(LiteRtGetProfilerEvents(profiler, count, events));
  for (int i = 0; i < count; i++) inside |= events[i].type == DELEGATED_EVENT;
  printf("{\"operators\":[");
  for (int i = 0; i < count; i++) {
    char name[256];
    const char *tag = events[i].tag ? events[i].tag : "?";
    int delegated = events[i].type == DELEGATED_EVENT;
    if (!delegated && (events[i].type != OPERATOR_EVENT || (inside && strcasestr(tag, "delegate")))) continue;
    snprintf(name, sizeof name, "%.200s:%d", tag, printed);
    printf("%s{\"name\":", printed++ ? "," : "");
    print_quoted(name);
    printf(",\"kind\":");
    print_quoted(tag);
    printf(",\"provider\":\"%s\",\"elapsed_us\":%llu}", delegated ? "XNNPACK" : "LiteRT",
           (unsigned long long)events[i].elapsed_us);
  }
  printf("]}\n");
  free(events);
}

void model_print_operators(Model *made, int runs) {
  Handle profiler;
  OK(LiteRtCompiledModelGetProfiler(made->compiled, &profiler));
  if (!profiler) fail(made->path, "this library has no profiler", 0);
  for (int i = 0; i < runs; i++) {
    OK(LiteRtResetProfiler(profiler));
    OK(LiteRtStartProfiler(profiler));
    model_run(made);
    OK(LiteRtStopProfiler(profiler));
    print_run(made, profiler);
  }
}
