/* Classify one image with a TFLite file of hwnas, on the C API of libLiteRt.so (ai-edge-litert 2.3).
 *
 *   cc classify_litert.c -o classify -lm "$LITERT/libLiteRt.so" -Wl,-rpath,"$LITERT"
 *   ./classify model.tflite image.pgm
 *
 * LITERT is the folder of the Python package. The file must take pixels (`hwnas specialize --pixels`):
 * then there is nothing to normalise. The image is a binary PGM (grey) or PPM (colour) of the file's
 * size; printed is the number of the class. The wheel has no headers: the prototypes are by hand.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *Handle;
typedef struct {
  float scale;
  int64_t zero_point;
} Quantization;

int LiteRtCreateEnvironment(int, const void *, Handle *);
int LiteRtCreateModelFromFile(Handle, const char *, Handle *);
int LiteRtCreateOptions(Handle *);
int LiteRtSetOptionsHardwareAccelerators(Handle, int);
int LiteRtCreateCompiledModel(Handle, Handle, Handle, Handle *);
int LiteRtGetModelSignature(Handle, size_t, Handle *);
int LiteRtGetSignatureInputTensorByIndex(Handle, size_t, Handle *);
int LiteRtGetSignatureOutputTensorByIndex(Handle, size_t, Handle *);
int LiteRtGetRankedTensorType(Handle, void *);
int LiteRtGetPerTensorQuantization(Handle, Quantization *);
int LiteRtGetCompiledModelInputBufferRequirements(Handle, size_t, size_t, Handle *);
int LiteRtGetCompiledModelOutputBufferRequirements(Handle, size_t, size_t, Handle *);
int LiteRtCreateManagedTensorBufferFromRequirements(Handle, const void *, Handle, Handle *);
int LiteRtGetTensorBufferPackedSize(Handle, size_t *);
int LiteRtLockTensorBuffer(Handle, void **, int);
int LiteRtUnlockTensorBuffer(Handle);
int LiteRtRunCompiledModel(Handle, size_t, size_t, Handle *, size_t, Handle *);

enum { ON_CPU = 1, LOCK_READ = 0, LOCK_WRITE = 1, FLOAT32 = 1, INT8 = 9 };

#define OK(call)                                     \
  do {                                               \
    int status = (call);                             \
    if (status) {                                    \
      fprintf(stderr, "%s: %d\n", #call, status);    \
      exit(1);                                       \
    }                                                \
  } while (0)

/* Read a binary PGM or PPM; its values are in the order of the input: rows, columns, channels. */
static unsigned char *read_image(const char *path, size_t *count) {
  int kind, width, height, most;
  FILE *file = fopen(path, "rb");
  if (!file || fscanf(file, "P%d %d %d %d", &kind, &width, &height, &most) != 4 || most != 255 ||
      (kind != 5 && kind != 6) || width < 1 || height < 1 || width > 65535 || height > 65535) {
    fprintf(stderr, "%s: not a binary PGM or PPM of 8 bits\n", path);
    exit(1);
  }
  fgetc(file);
  *count = (size_t)width * height * (kind == 6 ? 3 : 1);
  unsigned char *pixels = malloc(*count);
  if (!pixels || fread(pixels, 1, *count, file) != *count) {
    fprintf(stderr, "%s: is cut off\n", path);
    exit(1);
  }
  fclose(file);
  return pixels;
}

int main(int argc, char **argv) {
  Handle environment, model, options, compiled, signature, tensors[2], needs[2], buffers[2];
  uint64_t types[2][64] = {{0}};
  size_t pixels, bytes;
  void *data;
  if (argc != 3) {
    fprintf(stderr, "usage: %s model.tflite image.pgm\n", argv[0]);
    return 2;
  }
  unsigned char *image = read_image(argv[2], &pixels);

  OK(LiteRtCreateEnvironment(0, NULL, &environment));
  OK(LiteRtCreateModelFromFile(environment, argv[1], &model));
  OK(LiteRtCreateOptions(&options));
  OK(LiteRtSetOptionsHardwareAccelerators(options, ON_CPU));
  OK(LiteRtCreateCompiledModel(environment, model, options, &compiled));
  OK(LiteRtGetModelSignature(model, 0, &signature));
  OK(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensors[0]));
  OK(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensors[1]));
  OK(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &needs[0]));
  OK(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &needs[1]));
  for (int i = 0; i < 2; i++) {
    OK(LiteRtGetRankedTensorType(tensors[i], types[i]));
    OK(LiteRtCreateManagedTensorBufferFromRequirements(environment, types[i], needs[i], &buffers[i]));
  }

  int type = (int)(uint32_t)types[0][0];
  OK(LiteRtGetTensorBufferPackedSize(buffers[0], &bytes));
  if (bytes != pixels * (type == FLOAT32 ? sizeof(float) : 1)) {
    fprintf(stderr, "%s: the image has %zu values, the input %zu bytes\n", argv[2], pixels, bytes);
    return 1;
  }
  OK(LiteRtLockTensorBuffer(buffers[0], &data, LOCK_WRITE));
  if (type == FLOAT32) {
    for (size_t i = 0; i < pixels; i++) ((float *)data)[i] = image[i];
  } else {
    Quantization q; /* real = scale * (value - zero_point) */
    OK(LiteRtGetPerTensorQuantization(tensors[0], &q));
    for (size_t i = 0; i < pixels; i++) {
      float value = roundf(image[i] / q.scale) + (float)q.zero_point;
      ((int8_t *)data)[i] = (int8_t)fminf(fmaxf(value, -128), 127);
    }
  }
  OK(LiteRtUnlockTensorBuffer(buffers[0]));
  OK(LiteRtRunCompiledModel(compiled, 0, 1, &buffers[0], 1, &buffers[1]));

  OK(LiteRtGetTensorBufferPackedSize(buffers[1], &bytes));
  OK(LiteRtLockTensorBuffer(buffers[1], &data, LOCK_READ));
  size_t best = 0;
  if ((int)(uint32_t)types[1][0] == FLOAT32) {
    float *logits = data;
    for (size_t i = 1; i < bytes / sizeof(float); i++)
      if (logits[i] > logits[best]) best = i;
  } else {
    int8_t *logits = data; /* int8 keeps the order */
    for (size_t i = 1; i < bytes; i++)
      if (logits[i] > logits[best]) best = i;
  }
  OK(LiteRtUnlockTensorBuffer(buffers[1]));
  printf("%zu\n", best);
  free(image);
  return 0;
}
