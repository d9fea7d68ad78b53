/* The part of ONNX Runtime's C API that the native runner needs, without its header.
 *
 * The API is a table of function pointers whose order never changes once a version has shipped (newer
 * libraries only append, and assert it), so a function is its place in the table. All those used here
 * shipped with version 5 of the API or before (ONNX Runtime 1.5). All handles are opaque.
 */
#ifndef HWNAS_ORT_API_H
#define HWNAS_ORT_API_H
#include <stddef.h>
#include <stdint.h>

typedef void *Handle;
typedef Handle Status; /* NULL is success */

typedef struct {
  const void *const *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} ApiBase;
const ApiBase *OrtGetApiBase(void);

extern const void *const *ort_table;
enum { ORT_API = 5, LOG_FATAL = 4, OPTIMIZE_ALL = 99, SEQUENTIAL = 0 };

#define ORT(place, ...) ((Status(*)(__VA_ARGS__))ort_table[place])
#define ort_error_message ((const char *(*)(Handle))ort_table[2])
#define ort_create_env ORT(3, int, const char *, Handle *)
#define ort_create_session ORT(7, Handle, const char *, Handle, Handle *)
#define ort_run \
  ORT(9, Handle, Handle, const char *const *, const Handle *, size_t, const char *const *, size_t, Handle *)
#define ort_create_options ORT(10, Handle *)
#define ort_set_execution_mode ORT(13, Handle, int)
#define ort_enable_profiling ORT(14, Handle, const char *)
#define ort_set_log_severity ORT(22, Handle, int)
#define ort_set_optimization ORT(23, Handle, int)
#define ort_set_intra_threads ORT(24, Handle, int)
#define ort_set_inter_threads ORT(25, Handle, int)
#define ort_input_count ORT(30, Handle, size_t *)
#define ort_output_count ORT(31, Handle, size_t *)
#define ort_input_type ORT(33, Handle, size_t, Handle *)
#define ort_input_name ORT(36, Handle, size_t, Handle, char **)
#define ort_output_name ORT(37, Handle, size_t, Handle, char **)
#define ort_create_tensor ORT(48, Handle, const int64_t *, size_t, int, Handle *)
#define ort_tensor_data ORT(51, Handle, void **)
#define ort_tensor_info ORT(55, Handle, Handle *) /* borrowed from the type */
#define ort_element_type ORT(60, Handle, int *)
#define ort_dimension_count ORT(61, Handle, size_t *)
#define ort_dimensions ORT(62, Handle, int64_t *, size_t)
#define ort_element_count ORT(64, Handle, size_t *)
#define ort_type_and_shape ORT(65, Handle, Handle *)
#define ort_default_allocator ORT(78, Handle *)
#define ort_end_profiling ORT(110, Handle, Handle, char **)
#define ort_add_config ORT(130, Handle, const char *, const char *)
#endif
