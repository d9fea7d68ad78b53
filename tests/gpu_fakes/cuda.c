/* Plays NVIDIA's driver library: streams are names, events are moments of the host's clock. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { double ms; int recorded; } Event;

static int ready, device = -1;
int cuInit(unsigned flags) { return flags || (ready = 1, 0); }
int cuDeviceGet(int *out, int number) { return !ready ? 3 : number ? 101 : (*out = 7, 0); }
int cuDeviceGetPCIBusId(char *text, int length, int of) {
  return length < 13 || of != 7 ? 1 : (strcpy(text, "0000:3b:00.0"), 0);
}
int cuDevicePrimaryCtxRetain(void **context, int of) { return of != 7 ? 101 : (*context = &device, 0); }
int cuCtxSetCurrent(void *context) { return context != &device ? 201 : (device = 7, 0); }
int cuStreamCreate(void **stream, unsigned flags) {
  return device != 7 || flags != 1 ? 201 : (*stream = &ready, 0);
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
  return *text = status == 101 ? "invalid device ordinal" : "another error", 0;
}
