/* Plays NVIDIA's driver library: streams are names, events are moments of the host's clock.
 *
 * A machine of three GPUs, of which the second on the bus is the fastest and has an instance (MIG).
 * CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are read as CUDA's guide has them: numbers, beginnings
 * of UUIDs or one instance; the first that is not there hides all that follow. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { double ms; int recorded; } Event;
typedef struct { const char *place, *name; unsigned char uuid[16]; } Gpu;

static const Gpu gpus[] = {
  {"0000:3b:00.0", "GPU-1b2c0000-0000-0000-0000-000000000000", {0x1b, 0x2c}},
  {"0000:5e:00.0", "GPU-a1000000-0000-0000-0000-000000000000", {0xa1}},
  {"0000:86:00.0", "GPU-a1ff0000-0000-0000-0000-000000000000", {0xa1, 0xff}},
  {"0000:5e:00.0", "MIG-5e115000-0000-0000-0000-000000000000", {0x5e, 0x11, 0x50}},
};
static int seen[3], count, ready;
static const Gpu *current;

static int found(const char *word, const int *order) {
  char *end;
  int which = -1;
  if (strncmp(word, "GPU-", 4) && strncmp(word, "MIG-", 4)) {
    long number = strtol(word, &end, 10);
    return end == word || *end || number < 0 || number > 2 ? -1 : order[number];
  }
  for (int i = 0; i < 4; i++)
    if (!strncmp(gpus[i].name, word, strlen(word))) which = which == -1 ? i : -2; /* of two: none */
  return which < 0 ? -1 : which;
}

int cuInit(unsigned flags) {
  static const int by_bus[] = {0, 1, 2}, by_speed[] = {1, 0, 2};
  const char *asked = getenv("CUDA_DEVICE_ORDER"), *visible = getenv("CUDA_VISIBLE_DEVICES");
  const int *order = asked && !strcmp(asked, "PCI_BUS_ID") ? by_bus : by_speed;
  char text[256], *rest;
  count = 0;
  if (!visible) memcpy(seen, order, sizeof seen), count = 3;
  strncpy(text, visible ? visible : "", sizeof text - 1)[sizeof text - 1] = 0;
  for (char *word = strtok_r(text, ", ", &rest); word && count < 3; word = strtok_r(NULL, ", ", &rest)) {
    int which = found(word, order);
    if (which < 0) break;
    seen[count++] = which;
    if (which == 3) break; /* one instance at most */
  }
  return flags ? 1 : !count ? 100 : (ready = 1, 0);
}
int cuDeviceGetCount(int *out) { return !ready ? 3 : (*out = count, 0); }
int cuDeviceGet(int *out, int number) {
  return !ready ? 3 : number < 0 || number >= count ? 101 : (*out = 7 + seen[number], 0);
}
int cuDeviceGetPCIBusId(char *text, int length, int of) {
  return length < 13 || of < 7 || of > 10 ? 1 : (strcpy(text, gpus[of - 7].place), 0);
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int of) {
  return of < 7 || of > 10 ? 1 : (memcpy(uuid, gpus[of - 7].uuid, 16), 0);
}
int cuDevicePrimaryCtxRetain(void **context, int of) {
  return of < 7 || of > 10 ? 101 : (*context = (void *)&gpus[of - 7], 0);
}
int cuCtxSetCurrent(void *context) {
  const Gpu *of = context;
  return of < gpus || of > gpus + 3 ? 201 : (current = of, 0);
}
int cuStreamCreate(void **stream, unsigned flags) {
  return !current || flags != 1 ? 201 : (*stream = &ready, 0);
}
int cuEventCreate(Event **event, unsigned flags) { return flags ? 1 : !(*event = calloc(1, sizeof(Event))); }
int cuEventRecord(Event *event, void *stream) {
  struct timespec now;
  if (stream != &ready) return 400;
  clock_gettime(CLOCK_MONOTONIC, &now);
  event->ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
  event->recorded = 1;
  return 0;
}
int cuEventSynchronize(Event *event) { return event->recorded ? 0 : 400; }
int cuEventElapsedTime(float *ms, Event *start, Event *end) {
  return start->recorded && end->recorded ? (*ms = (float)(end->ms - start->ms), 0) : 600;
}
int cuGetErrorString(int status, const char **text) {
  *text = status == 101 ? "invalid device ordinal"
        : status == 100 ? "no CUDA-capable device is detected" : "another error";
  return 0;
}
