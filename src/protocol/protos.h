/* The .proto files of proto/ as descriptors (google.protobuf.FileDescriptorProto), written by
 * tools/protoset.py when this is built. Constant. */
#ifndef OT_PROTOCOL_PROTOS_H
#define OT_PROTOCOL_PROTOS_H

#include <stddef.h>

typedef struct ot_proto_file {
    const char *name; /* as imports say it */
    const unsigned char *descriptor;
    size_t n;
    const char *const *symbols; /* full names that it declares, sorted; then NULL */
    const int *imports;         /* places in ot_proto_files; then -1 */
} ot_proto_file;

extern const ot_proto_file ot_proto_files[]; /* then one whose name is NULL */

#endif
