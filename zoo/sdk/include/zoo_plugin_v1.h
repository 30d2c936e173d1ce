/* The plugin ABI of zoo, version 1.0. README.md of zoo-sdk says what the operations mean.
 *
 * A plugin exports `ZOO_PLUGIN_META` and `zoo_plugin_v1`. ZooText and ZooTensor are frozen; the other structs grow at
 * their end only, and whoever reads one looks at its `size` first. All numbers are little-endian. */
#ifndef ZOO_PLUGIN_V1_H
#define ZOO_PLUGIN_V1_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZOO_ABI_MAJOR 1
#define ZOO_ABI_MINOR 1

/* Host to plugin. */
enum {
    ZOO_DESCRIBE = 1,
    ZOO_TRAIN = 2,
    ZOO_OPEN = 3,
    ZOO_CLOSE = 4,
    ZOO_GRAPHS = 5,
    ZOO_RUN = 6,
    ZOO_EVALUATE = 7,
    ZOO_EXPORT = 8,
};

/* Plugin to host, while ZOO_TRAIN or ZOO_EVALUATE lasts. */
enum {
    ZOO_PROGRESS = 101,
    ZOO_CHECKPOINT = 102,
    ZOO_IMAGES = 103,
};

enum {
    ZOO_OK = 0,
    ZOO_ERROR = 1,
    ZOO_UNANSWERED = -1, /* as uint32_t; what the caller writes into a reply before the call */
};

enum {
    ZOO_F32 = 1,
    ZOO_F64 = 2,
    ZOO_F16 = 3,
    ZOO_I64 = 4,
    ZOO_I32 = 5,
    ZOO_U8 = 6,
    ZOO_BOOL = 7,
};

/* What a file says of itself; it is read without loading the library. */
typedef struct ZooMeta {
    uint8_t magic[16]; /* "zoo plugin meta\n" */
    uint32_t major;
    uint32_t minor;
    uint32_t len; /* bytes of json */
    uint32_t reserved;
    uint8_t json[992]; /* {"package":"..","version":"..","sdk":"..","requires":[]} */
} ZooMeta;

/* UTF-8 without a terminating zero. */
typedef struct ZooText {
    const uint8_t *ptr;
    uint64_t len;
} ZooText;

/* Dense, row-major, aligned for its elements. */
typedef struct ZooTensor {
    ZooText name;
    uint32_t dtype;
    uint32_t rank;
    const uint64_t *shape;
    const void *data;
    uint64_t bytes;
    uint32_t device; /* 0: the host's memory */
    uint32_t reserved;
} ZooTensor;

/* A request; all of it is lent until the call returns. */
typedef struct ZooCall {
    uint32_t size;
    uint32_t op;
    uint64_t session;
    ZooText json;
    const ZooTensor *tensors;
    uint64_t n_tensors;
    const struct ZooPeer *host; /* whom to call back while this call lasts */
} ZooCall;

/* An answer; it belongs to the answerer until the caller calls release(owner). */
typedef struct ZooReply {
    uint32_t size;
    uint32_t status;
    ZooText json; /* the result, or {"kind":"input|diverged|host|internal","message":".."} */
    const ZooTensor *tensors;
    uint64_t n_tensors;
    void *owner;
    void (*release)(void *owner); /* may be null */
} ZooReply;

/* Somebody who can be called, from any thread. */
typedef struct ZooPeer {
    uint32_t size;
    uint32_t major;
    uint32_t minor;
    uint32_t reserved;
    void *state;
    void (*call)(void *state, const ZooCall *call, ZooReply *reply);
} ZooPeer;

/* The entry function; the table lives for ever. */
const ZooPeer *zoo_plugin_v1(uint32_t host_minor);

#ifdef __cplusplus
}
#endif

#endif
