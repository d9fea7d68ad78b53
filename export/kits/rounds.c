/* Measures model files in shuffled rounds beside a reference model, as hwnas/devices/worker/rounds.py does.
 *
 * Flags, as words or as lines of stdin after --flags=- :
 *   --graph=FILE (again for each model) --reference=FILE --num_threads=1 --cores=2,3 --seed=0
 *   --warmup_runs=5 --warmup_min_secs=0.5 --runs=7 --min_rounds=10 --max_rounds=40 --ci=0.02 --max_secs=60
 *   --input_file=RAW --output_filepath=RAW   run the first graph once on this input instead
 *   --enable_op_profiling=true               print the first graph's operators in each of --runs instead
 *
 * Writes JSON lines: {"progress":[done,planned]}, at the end {"result":...} or {"error":...}.
 */
#define _GNU_SOURCE
#include "rounds.h"

#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define MOST_MODELS 64
#define MOST_FLAGS 256

/* wall clock, CPU time, time that other programs took, involuntary context switches of each call */
typedef struct {
  double *wall, *cpu, *lost, *switches;
} Samples;

typedef struct {
  Model *model;
  double load_ms, first_run_ms;
  int rounds, open;
  Samples own, reference; /* [max_rounds][runs] */
} Subject;

static char *flags[MOST_FLAGS];
static int flag_count;

static double clock_ms(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static double now_ms(void) { return clock_ms(CLOCK_MONOTONIC); }

static long switches(int threads) {
  struct rusage usage;
  getrusage(threads == 1 ? RUSAGE_THREAD : RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

/* for how long all threads were ready to run and got no core; without the kernel's account each
   involuntary switch counts for a second */
static double waited_ms(int threads) {
  DIR *tasks = threads > 1 ? opendir("/proc/self/task") : NULL;
  double total = 0;
  int known = 0;
  for (struct dirent *task; tasks && (task = readdir(tasks));) {
    char path[300];
    double ran, waited;
    snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", task->d_name);
    FILE *file = *task->d_name == '.' ? NULL : fopen(path, "r");
    if (!file) continue;
    if (fscanf(file, "%lf %lf", &ran, &waited) == 2) total += waited / 1e6, known = 1;
    fclose(file);
  }
  if (tasks) closedir(tasks);
  return known || threads == 1 ? total : switches(threads) * 1e3;
}

void print_quoted(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\') printf("\\%c", *c);
    else if (*c < 32 || *c > 126) printf("\\u%04x", *c);
    else putchar(*c);
  }
  putchar('"');
}

void fail(const char *file, const char *why, int code) {
  char text[512];
  snprintf(text, sizeof text, code ? "%s (status %d)" : "%s", why, code);
  printf("{\"error\":");
  print_quoted(text);
  if (file) {
    printf(",\"file\":");
    print_quoted(file);
  }
  printf("}\n");
  exit(0); /* the message is the answer; a status would say that the runner itself broke */
}

static void add_flag(const char *text) {
  if (flag_count == MOST_FLAGS) fail(NULL, "too many flags", 0);
  if (strncmp(text, "--", 2) || !strchr(text, '=')) fail(NULL, "expected flags like --name=value", 0);
  flags[flag_count++] = strdup(text + 2);
}

static void read_flags(int count, char **words) {
  for (int i = 1; i < count; i++) {
    if (strcmp(words[i], "--flags=-")) {
      add_flag(words[i]);
      continue;
    }
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\r\n")] = 0;
      if (*line) add_flag(line);
    }
  }
}

static const char *flag(const char *name, const char *otherwise) {
  size_t length = strlen(name);
  for (int i = 0; i < flag_count; i++)
    if (!strncmp(flags[i], name, length) && flags[i][length] == '=') return flags[i] + length + 1;
  return otherwise;
}

static double number(const char *name, const char *otherwise) { return atof(flag(name, otherwise)); }

/* splitmix64: the same seed gives the same inputs and the same order everywhere */
static uint64_t random_state;
static uint64_t random_bits(void) {
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static void fill_input(Model *model, size_t index, const char *file) {
  size_t bytes;
  int noisy;
  unsigned char *data = model_input(model, index, &bytes, &noisy);
  if (file) {
    FILE *in = fopen(file, "rb");
    if (!in || fread(data, 1, bytes, in) != bytes) fail(file, "is not an input of the model's size", 0);
    fclose(in);
  } else if (!noisy) {
    memset(data, 0, bytes);
  } else {
    for (size_t i = 0; i + 4 <= bytes; i += 4) { /* floats in [-1, 1); as bytes they are as good */
      float value = (float)((double)(random_bits() >> 11) / 4503599627370496.0 - 1.0);
      memcpy(data + i, &value, 4);
    }
  }
  model_input_done(model, index);
}

/* with --input_file, once for each input in order, or without any */
static void fill_inputs(Model *model, int from_files) {
  const char *files[MOST_FLAGS];
  size_t count = 0, needed = model_input_count(model);
  for (int i = 0; i < flag_count && from_files; i++)
    if (!strncmp(flags[i], "input_file=", 11)) files[count++] = flags[i] + 11;
  if (count && count != needed) fail(NULL, "give --input_file for each input of the model", 0);
  for (size_t i = 0; i < needed; i++) fill_input(model, i, count ? files[i] : NULL);
}

/* the first output goes to path, others to path.1, path.2 */
static void write_outputs(Model *model, const char *path) {
  char name[4096];
  model_write_output(model, 0, path);
  for (size_t i = 1; i < model_output_count(model); i++) {
    snprintf(name, sizeof name, "%s.%zu", path, i);
    model_write_output(model, i, name);
  }
}

static Samples new_samples(int count) {
  double *values = malloc(sizeof(double) * count * 4);
  return (Samples){values, values + count, values + 2 * count, values + 3 * count};
}

static Samples from(Samples samples, int place) {
  return (Samples){samples.wall + place, samples.cpu + place, samples.lost + place, samples.switches + place};
}

static void open_subject(Subject *subject, const char *path, int threads, int rounds, int runs) {
  double start = now_ms();
  subject->model = model_open(path, threads, 0);
  subject->load_ms = now_ms() - start;
  fill_inputs(subject->model, 0);
  start = now_ms();
  model_run(subject->model);
  subject->first_run_ms = now_ms() - start;
  subject->own = new_samples(rounds * runs);
  subject->reference = new_samples(rounds * runs);
  subject->open = 1;
}

static void timed(Model *model, int calls, Samples samples, int threads) {
  clockid_t cpu_clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
  for (int i = 0; i < calls; i++) {
    double waited = waited_ms(threads);
    long switched = switches(threads);
    double cpu = clock_ms(cpu_clock), start = now_ms();
    model_run(model);
    double wall = now_ms() - start;
    cpu = clock_ms(cpu_clock) - cpu;
    samples.wall[i] = wall;
    samples.cpu[i] = cpu;
    samples.switches[i] = switches(threads) - switched;
    samples.lost[i] = threads > 1 ? waited_ms(threads) - waited : wall > cpu ? wall - cpu : 0;
  }
}

/* a burst between two half-bursts of the reference; the first call of each finds cold caches */
static void visit(Subject *subject, Model *reference, int runs, int threads) {
  Samples own = from(subject->own, subject->rounds * runs);
  Samples other = from(subject->reference, subject->rounds * runs);
  model_run(reference);
  timed(reference, runs / 2, other, threads);
  model_run(subject->model);
  timed(subject->model, runs, own, threads);
  model_run(reference);
  timed(reference, runs - runs / 2, from(other, runs / 2), threads);
  subject->rounds++;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(const double *values, int count) {
  double *sorted = malloc(sizeof(double) * count), result;
  memcpy(sorted, values, sizeof(double) * count);
  qsort(sorted, count, sizeof(double), ascending);
  result = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
  free(sorted);
  return result;
}

/* half the 95 % interval of the median by order statistics, relative to it */
static int steady(const Subject *subject, int runs, double wanted) {
  int count = subject->rounds, rank = -1;
  double *ratios = malloc(sizeof(double) * count), outside = 0, term = ldexp(1, -count);
  for (int i = 0; i < count; i++)
    ratios[i] = median(subject->own.wall + i * runs, runs) / median(subject->reference.wall + i * runs, runs);
  qsort(ratios, count, sizeof(double), ascending);
  while (rank + 1 < count / 2) {
    outside += 2 * term;
    if (outside > 0.05) break;
    rank++;
    term = term * (count - rank) / (rank + 1);
  }
  if (rank < 0) rank = 0;
  double width = (ratios[count - 1 - rank] - ratios[rank]) / 2 / median(ratios, count);
  free(ratios);
  return width <= wanted;
}

static void print_list(const char *name, const double *values, int count, int digits, double least) {
  printf("\"%s\":[", name);
  for (int i = 0; i < count; i++) printf("%s%.*f", i ? "," : "", digits, values[i] > least ? values[i] : least);
  putchar(']');
}

static void print_samples(const char *name, const char *usage, Samples samples, int count) {
  print_list(name, samples.wall, count, 5, 1e-5);
  printf(",\"%s\":{", usage);
  print_list("cpu_ms", samples.cpu, count, 5, 0);
  putchar(',');
  print_list("lost_ms", samples.lost, count, 5, 0);
  putchar(',');
  print_list("switches", samples.switches, count, 0, 0);
  putchar('}');
}

static double read_number(const char *path, double otherwise) {
  FILE *file = fopen(path, "r");
  double value = otherwise;
  if (file) {
    if (fscanf(file, "%lf", &value) != 1) value = otherwise;
    fclose(file);
  }
  return value;
}

static void print_conditions(double load_before, const char *cores) {
  char path[128], governor[64] = "";
  int core = atoi(cores);
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", core);
  FILE *file = fopen(path, "r");
  if (file) {
    if (fscanf(file, "%63s", governor) != 1) *governor = 0;
    fclose(file);
  }
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", core);
  double clock_khz = read_number(path, 0), hottest = -1;
  for (int zone = 0; zone < 64; zone++) {
    snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
    double heat = read_number(path, -1);
    if (heat > hottest) hottest = heat;
  }
  double load_after = read_number("/proc/loadavg", -1);
  printf("{\"runtime_version\":");
  print_quoted(runtime_version());
  printf(",\"affinity\":[%s]", cores);
  if (*governor) {
    printf(",\"governor\":");
    print_quoted(governor);
  }
  if (clock_khz > 0) printf(",\"frequency_mhz\":%.1f", clock_khz / 1e3);
  if (hottest > 0) printf(",\"temperature_c\":%.1f", hottest > 1000 ? hottest / 1e3 : hottest);
  if (load_before >= 0) printf(",\"load_before\":%.2f", load_before);
  if (load_after >= 0) printf(",\"load_after\":%.2f", load_after);
  putchar('}');
}

static void pin(const char *cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const char *at = cores; *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : at + strlen(at)) {
    int core = atoi(at);
    if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &set);
  }
  if (*cores && sched_setaffinity(0, sizeof set, &set)) fail(NULL, "these cores cannot be pinned to", 0);
}

static void progress(int done, int planned) {
  static double next;
  if (now_ms() < next) return;
  printf("{\"progress\":[%d,%d]}\n", done, planned > done ? planned : done);
  fflush(stdout);
  next = now_ms() + 200;
}

static int run_once(const char *graph) {
  int profiled = !strcmp(flag("enable_op_profiling", "false"), "true");
  const char *output = flag("output_filepath", NULL);
  if (!profiled && !output) return 0;
  Model *model = model_open(graph, (int)number("num_threads", "1"), profiled);
  fill_inputs(model, 1);
  for (int i = 0; i < (profiled ? (int)number("warmup_runs", "5") : 1); i++) model_run(model);
  if (profiled) model_print_operators(model, (int)number("runs", "7"));
  if (output) write_outputs(model, output);
  return 1;
}

int main(int count, char **words) {
  static Subject subjects[MOST_MODELS];
  Subject reference = {0};
  const char *graphs[MOST_MODELS];
  int models = 0;
  read_flags(count, words);
  for (int i = 0; i < flag_count; i++)
    if (!strncmp(flags[i], "graph=", 6)) {
      if (models == MOST_MODELS) fail(NULL, "too many graphs", 0);
      graphs[models++] = flags[i] + 6;
    }
  random_state = (uint64_t)number("seed", "0");
  const char *cores = flag("cores", "");
  pin(cores);
  if (models && run_once(graphs[0])) return 0;
  int threads = (int)number("num_threads", "1"), runs = (int)number("runs", "7");
  int least = (int)number("min_rounds", "10"), most = (int)number("max_rounds", "40");
  if (threads < 1 || runs < 1 || least < 1 || most < least || most > 100000 || runs > 100000)
    fail(NULL, "a number of threads, runs or rounds is out of range", 0);
  double load_before = read_number("/proc/loadavg", -1);
  open_subject(&reference, flag("reference", models ? graphs[0] : ""), threads, 1, 1);
  for (int i = 0; i < models; i++) {
    open_subject(&subjects[i], graphs[i], threads, most, runs);
    progress(0, models * least);
  }
  double end = now_ms() + number("warmup_min_secs", "0.5") * 1e3;
  for (int i = 0; i < number("warmup_runs", "5") || now_ms() < end; i++) {
    model_run(reference.model);
    for (int m = 0; m < models; m++) model_run(subjects[m].model);
    progress(0, models * least);
  }
  int order[MOST_MODELS], visits = 0, left = models;
  end = now_ms() + number("max_secs", "60") * 1e3;
  for (int i = 0; i < models; i++) order[i] = i;
  for (int round = 1; round <= most && left; round++) {
    for (int i = models - 1; i > 0; i--) { /* Fisher and Yates */
      int j = (int)(random_bits() % (uint64_t)(i + 1)), kept = order[i];
      order[i] = order[j], order[j] = kept;
    }
    for (int i = 0; i < models; i++) {
      if (!subjects[order[i]].open) continue;
      visit(&subjects[order[i]], reference.model, runs, threads);
      progress(++visits, models * least);
    }
    if (round < least) continue;
    left = 0;
    for (int i = 0; i < models; i++)
      left += subjects[i].open = subjects[i].open && !steady(&subjects[i], runs, number("ci", "0.02"));
    if (now_ms() > end) break;
  }
  printf("{\"result\":{\"models\":[");
  for (int i = 0; i < models; i++) {
    printf("%s{\"load_ms\":%.5f,\"first_run_ms\":%.5f,\"rounds\":[", i ? "," : "",
           subjects[i].load_ms, subjects[i].first_run_ms);
    for (int r = 0; r < subjects[i].rounds; r++) {
      printf("%s{\"number\":%d,", r ? "," : "", r + 1);
      print_samples("samples_ms", "usage", from(subjects[i].own, r * runs), runs);
      putchar(',');
      print_samples("reference_ms", "reference_usage", from(subjects[i].reference, r * runs), runs);
      putchar('}');
    }
    printf("]}");
  }
  printf("],\"environment\":");
  print_conditions(load_before, cores);
  printf("}}\n");
  return 0;
}
