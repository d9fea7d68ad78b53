/* ONNX Runtime's part of the native runner, on the C API of libonnxruntime.so.1 of its pip wheel. */
#define _GNU_SOURCE
#include "ort_api.h"
#include "rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TENSORS 16
#define MOST_AXES 16
enum { FLOAT32 = 1, UINT8 = 2, INT8 = 3 };

struct Model {
  const char *path;
  Handle session, inputs[MOST_TENSORS], outputs[MOST_TENSORS];
  char *input_names[MOST_TENSORS], *output_names[MOST_TENSORS];
  size_t input_count, output_count;
  int noisy[MOST_TENSORS];
};

const void *const *ort_table;
static Handle environment, allocator;

static void check(const char *path, Status status) {
  if (status) fail(path, ort_error_message(status), 0);
}
#define OK(call) check(made->path, call)

const char *runtime_version(void) {
  static char text[64];
  snprintf(text, sizeof text, "%s, native", OrtGetApiBase()->get_version());
  return text;
}

static void start(void) {
  if (ort_table) return;
  ort_table = OrtGetApiBase()->get_api(ORT_API);
  if (!ort_table) fail(NULL, "this ONNX Runtime is older than 1.5", 0);
  check(NULL, ort_create_env(LOG_FATAL, "hwnas", &environment));
  check(NULL, ort_default_allocator(&allocator));
}

/* bytes of an element by ONNX's number of its type; 0: none that can be filled */
static size_t element_bytes(int type) {
  static const unsigned char bytes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 8, 16, 2};
  return type > 0 && type < (int)sizeof bytes ? bytes[type] : 0;
}

static size_t tensor_bytes(Model *made, Handle tensor) {
  Handle info;
  size_t count;
  int type;
  OK(ort_type_and_shape(tensor, &info));
  OK(ort_element_count(info, &count));
  OK(ort_element_type(info, &type));
  return count * element_bytes(type);
}

static void make_input(Model *made, size_t index) {
  Handle type, info;
  int64_t axes[MOST_AXES];
  size_t count;
  int element;
  OK(ort_input_type(made->session, index, &type));
  OK(ort_tensor_info(type, &info));
  if (!info) fail(made->path, "has an input that is no tensor", 0);
  OK(ort_element_type(info, &element));
  OK(ort_dimension_count(info, &count));
  made->noisy[index] = element == FLOAT32 || element == UINT8 || element == INT8;
  if (count > MOST_AXES || !element_bytes(element)) fail(made->path, "has an input of another type", 0);
  OK(ort_dimensions(info, axes, count));
  for (size_t i = 0; i < count; i++)
    if (axes[i] < 1) axes[i] = 1; /* free axes */
  OK(ort_create_tensor(allocator, axes, count, element, &made->inputs[index]));
  void *data;
  OK(ort_tensor_data(made->inputs[index], &data));
  memset(data, 0, tensor_bytes(made, made->inputs[index]));
}

Model *model_open(const char *path, int threads, int profiled) {
  Model *made = calloc(1, sizeof *made);
  Handle options;
  made->path = path;
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened on the device", 0);
  fclose(file);
  start();
  OK(ort_create_options(&options));
  OK(ort_set_intra_threads(options, threads));
  OK(ort_set_inter_threads(options, 1));
  OK(ort_set_execution_mode(options, SEQUENTIAL));
  OK(ort_set_log_severity(options, LOG_FATAL));
  OK(ort_set_optimization(options, OPTIMIZE_ALL));
  OK(ort_add_config(options, "session.intra_op.allow_spinning", "0"));
  if (profiled) {
    char prefix[256];
    const char *folder = getenv("TMPDIR");
    snprintf(prefix, sizeof prefix, "%s/hwnas-profile", folder ? folder : "/tmp");
    OK(ort_enable_profiling(options, prefix));
  }
  OK(ort_create_session(environment, path, options, &made->session));
  OK(ort_input_count(made->session, &made->input_count));
  OK(ort_output_count(made->session, &made->output_count));
  if (made->input_count < 1 || made->input_count > MOST_TENSORS || made->output_count < 1 ||
      made->output_count > MOST_TENSORS)
    fail(path, "has no input or output, or too many", 0);
  for (size_t i = 0; i < made->input_count; i++) {
    OK(ort_input_name(made->session, i, allocator, &made->input_names[i]));
    make_input(made, i);
  }
  for (size_t i = 0; i < made->output_count; i++)
    OK(ort_output_name(made->session, i, allocator, &made->output_names[i]));
  return made;
}

size_t model_input_count(const Model *made) { return made->input_count; }

size_t model_output_count(const Model *made) { return made->output_count; }

void *model_input(Model *made, size_t index, size_t *bytes, int *noisy) {
  void *data;
  *noisy = made->noisy[index];
  *bytes = tensor_bytes(made, made->inputs[index]);
  OK(ort_tensor_data(made->inputs[index], &data));
  return data;
}

void model_input_done(Model *made, size_t index) { (void)made, (void)index; }

/* the first run makes the outputs, later ones write into them */
void model_run(Model *made) {
  OK(ort_run(made->session, NULL, (const char *const *)made->input_names, made->inputs, made->input_count,
             (const char *const *)made->output_names, made->output_count, made->outputs));
}

void model_write_output(Model *made, size_t index, const char *path) {
  void *data;
  size_t bytes = tensor_bytes(made, made->outputs[index]);
  OK(ort_tensor_data(made->outputs[index], &data));
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file)) fail(path, "cannot be written", 0);
}

/* where the text of a field of one event begins, as ONNX Runtime writes it: "name" :"text" */
static const char *text_of(const char *line, const char *field, size_t *length) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\"", field);
  const char *at = strstr(line, key);
  if (!at || !(at = strchr(at + strlen(key), '"'))) return NULL;
  *length = strcspn(++at, "\"");
  return at;
}

/* the same as a copy, which lasts; "?" where there is no such field */
static char *copy_of(const char *line, const char *field) {
  size_t length;
  const char *text = text_of(line, field, &length);
  char *copy = text ? strndup(text, length) : strdup("?");
  if (!copy) fail(NULL, "no memory for the profile", 0);
  return copy;
}

typedef struct {
  char *name, *kind, *provider;
  double elapsed_us;
} Operator;

/* the operators of one run: as many as the network has */
typedef struct {
  Operator *list;
  size_t count, room;
} Operators;

static Operator *next_operator(Operators *all) {
  if (all->count == all->room) {
    all->room = all->room ? 2 * all->room : 256;
    all->list = realloc(all->list, all->room * sizeof *all->list);
    if (!all->list) fail(NULL, "no memory for the profile", 0);
  }
  return &all->list[all->count++];
}

static void print_operators(const Operators *all) {
  printf("{\"operators\":[");
  for (size_t i = 0; i < all->count; i++) {
    printf("%s{\"name\":", i ? "," : "");
    print_quoted(all->list[i].name);
    printf(",\"kind\":");
    print_quoted(all->list[i].kind);
    printf(",\"provider\":");
    print_quoted(all->list[i].provider);
    printf(",\"elapsed_us\":%.1f}", all->list[i].elapsed_us);
  }
  printf("]}\n");
}

static void forget_operators(Operators *all) {
  for (size_t i = 0; i < all->count; i++) {
    free(all->list[i].name);
    free(all->list[i].kind);
    free(all->list[i].provider);
  }
  all->count = 0;
}

/* take an event for an operator if it is the time of its kernel */
static void add_operator(Operators *all, const char *line) {
  const char *ending = "_kernel_time", *taken = strstr(line, "\"dur\"");
  size_t length, end = strlen(ending);
  const char *name = text_of(line, "name", &length);
  if (!name || length <= end || strncmp(name + length - end, ending, end)) return;
  Operator *one = next_operator(all);
  one->name = copy_of(line, "name");
  one->name[length - end] = 0;
  one->kind = copy_of(line, "op_name");
  one->provider = copy_of(line, "provider");
  one->elapsed_us = taken && strchr(taken, ':') ? atof(strchr(taken, ':') + 1) : 0;
}

/* a run's operators stand before its event model_run; warm-up runs are passed over */
void model_print_operators(Model *made, int runs) {
  Operators all = {0};
  char *file_name, *line = NULL;
  size_t size = 0;
  int seen = 0, total = 0;
  for (int i = 0; i < runs; i++) model_run(made);
  OK(ort_end_profiling(made->session, allocator, &file_name));
  FILE *file = fopen(file_name, "r");
  if (!file) fail(file_name, "cannot be read", 0);
  while (getline(&line, &size, file) > 0)
    total += strstr(line, "\"model_run\"") != NULL;
  rewind(file);
  while (getline(&line, &size, file) > 0) {
    if (strstr(line, "\"model_run\"")) {
      if (++seen > total - runs) print_operators(&all);
      forget_operators(&all);
    } else {
      add_operator(&all, line);
    }
  }
  forget_operators(&all);
  free(all.list);
  free(line);
  fclose(file);
  remove(file_name);
}
