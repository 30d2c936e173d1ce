/* A plugin in C, built against the headers of ABI 1.0 that lie beside it: the mean image. It must work with every later 1.x. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zoo_plugin_v1.h"

const ZooMeta ZOO_PLUGIN_META = {
    "zoo plugin meta\n", 1, 0, 56, 0, "{\"package\":\"mean-image\",\"version\":\"1.0.0\",\"requires\":[]}"};

/* Images of 1xHxW; one weight "mean"; one graph "sample": noise is scaled to nothing, the mean is drawn. */
enum { MOST = 4096 };
typedef struct {
    int used;
    uint64_t height, width;
    float mean[MOST];
} Session;
static Session sessions[16];

static const char DESCRIPTION[] =
    "[{\"name\":\"mean-image\",\"summary\":\"The mean of all images\",\"family\":\"constant\",\"density\":\"none\","
    "\"paper\":{\"title\":\"None\",\"authors\":\"Nobody\",\"year\":2026,\"url\":\"https://example.org\"},\"version\":\"1\","
    "\"graphs\":{\"sample\":\"the mean image\"},\"best_metric\":[\"squared_error\",false],"
    "\"model_schema\":{\"type\":\"object\",\"properties\":{}},"
    "\"train_schema\":{\"type\":\"object\",\"properties\":{\"steps\":{\"type\":\"integer\",\"description\":\"passes\"}}},"
    "\"defaults\":{\"model\":{},\"data\":{},\"train\":{\"steps\":1}}}]";

static void own(ZooReply *reply, uint32_t status, char *text) {
    reply->json.ptr = (uint8_t *)text;
    reply->json.len = strlen(text);
    reply->owner = text;
    reply->release = free;
    reply->status = status;
}

static void say(ZooReply *reply, const char *text) { own(reply, ZOO_OK, strdup(text)); }

static void fail(ZooReply *reply, const char *why) {
    char *text = malloc(strlen(why) + 64);
    sprintf(text, "{\"kind\":\"input\",\"message\":\"%s\"}", why);
    own(reply, ZOO_ERROR, text);
}

static const ZooTensor *find(const ZooCall *call, const char *name) {
    for (uint64_t i = 0; i < call->n_tensors; i++) {
        const ZooTensor *t = &call->tensors[i];
        if (t->name.len == strlen(name) && memcmp(t->name.ptr, name, t->name.len) == 0) return t;
    }
    return 0;
}

static int back(const ZooCall *call, uint32_t op, const char *json, const ZooTensor *tensors, uint64_t n) {
    ZooCall request = {sizeof request, op, 0, {(const uint8_t *)json, strlen(json)}, tensors, n, 0};
    ZooReply reply = {sizeof reply, (uint32_t)ZOO_UNANSWERED, {0, 0}, 0, 0, 0, 0};
    call->host->call(call->host->state, &request, &reply);
    int ok = reply.status == ZOO_OK;
    if (reply.release) reply.release(reply.owner);
    return ok;
}

static void train(const ZooCall *call, ZooReply *reply) {
    static float mean[MOST];
    const ZooTensor *images = find(call, "train.images");
    if (!images || images->rank != 4 || images->shape[0] == 0) return fail(reply, "there are no training images");
    uint64_t size = images->shape[1] * images->shape[2] * images->shape[3];
    if (images->dtype != ZOO_U8 || images->shape[1] != 1 || size > MOST) return fail(reply, "only small grey images of bytes");
    const uint8_t *values = images->data;
    for (uint64_t k = 0; k < size; k++) {
        double sum = 0;
        for (uint64_t i = 0; i < images->shape[0]; i++) sum += values[i * size + k];
        mean[k] = (float)(sum / 255.0 / (double)images->shape[0]);
    }
    back(call, ZOO_PROGRESS,
         "{\"event\":\"step\",\"step\":1,\"epoch\":1,\"losses\":[{\"name\":\"error\",\"value\":0.5}],\"learning_rate\":1,"
         "\"gradient_norm\":0,\"images_per_s\":1}",
         0, 0);
    uint64_t shape[3] = {1, images->shape[2], images->shape[3]};
    ZooTensor weight = {{(const uint8_t *)"model/mean", 10}, ZOO_F32, 3, shape, mean, size * 4, 0, 0};
    if (!back(call, ZOO_CHECKPOINT,
              "{\"step\":1,\"ema\":false,\"state\":{\"step\":1,\"images\":0,\"seed\":0,\"model\":[\"mean-image\",\"1\"],"
              "\"config\":{},\"updates\":{}}}",
              &weight, 1))
        return own(reply, ZOO_ERROR, strdup("{\"kind\":\"host\",\"message\":\"the checkpoint was not kept\"}"));
    say(reply, "{\"reason\":\"finished\",\"step\":1,\"seconds\":0}");
}

static void open_session(const ZooCall *call, ZooReply *reply) {
    const ZooTensor *mean = find(call, "weights/mean");
    if (!mean || mean->dtype != ZOO_F32 || mean->rank != 3 || mean->bytes > sizeof sessions[0].mean)
        return fail(reply, "the weight mean is missing, or of another type");
    for (int i = 0; i < 16; i++) {
        if (sessions[i].used) continue;
        sessions[i].used = 1;
        sessions[i].height = mean->shape[1];
        sessions[i].width = mean->shape[2];
        memcpy(sessions[i].mean, mean->data, mean->bytes);
        char text[64];
        sprintf(text, "{\"session\":%d}", i + 1);
        return say(reply, text);
    }
    fail(reply, "too many sessions");
}

static void ports(const Session *s, char *text) {
    sprintf(text,
            "\"inputs\":[{\"name\":\"noise\",\"shape\":[\"N\",1,%llu,%llu],\"dtype\":\"f32\",\"distribution\":\"normal\"}],"
            "\"outputs\":[{\"name\":\"x\",\"shape\":[\"N\",1,%llu,%llu],\"dtype\":\"f32\",\"range\":[0,1]}]",
            (unsigned long long)s->height, (unsigned long long)s->width, (unsigned long long)s->height,
            (unsigned long long)s->width);
}

static void graphs(const Session *s, ZooReply *reply) {
    char both[512], text[1024];
    ports(s, both);
    sprintf(text, "[{\"name\":\"sample\",\"doc\":\"the mean image\",%s}]", both);
    say(reply, text);
}

typedef struct {
    ZooTensor tensors[2];
    uint64_t shape[4];
    float data[];
} Out;

static void run(const Session *s, const ZooCall *call, ZooReply *reply) {
    const ZooTensor *noise = find(call, "noise");
    uint64_t size = s->height * s->width;
    if (!noise || noise->dtype != ZOO_F32 || noise->rank != 4 || noise->bytes != noise->shape[0] * size * 4)
        return fail(reply, "the input noise is missing, or of another type");
    uint64_t n = noise->shape[0];
    Out *out = malloc(sizeof *out + n * size * 4);
    out->shape[0] = n, out->shape[1] = 1, out->shape[2] = s->height, out->shape[3] = s->width;
    for (uint64_t i = 0; i < n; i++) memcpy(out->data + i * size, s->mean, size * 4);
    out->tensors[0] = (ZooTensor){{(const uint8_t *)"x", 1}, ZOO_F32, 4, out->shape, out->data, n * size * 4, 0, 0};
    static const char null[] = "null";
    reply->json = (ZooText){(const uint8_t *)null, 4};
    reply->tensors = out->tensors;
    reply->n_tensors = 1;
    reply->owner = out;
    reply->release = free;
    reply->status = ZOO_OK;
}

/* noise * zero + mean */
static void export_graph(const Session *s, ZooReply *reply) {
    uint64_t size = s->height * s->width;
    Out *out = malloc(sizeof *out + (size + 1) * 4 + 8192);
    char both[512], *text = (char *)(out->data + size + 1);
    unsigned long long h = s->height, w = s->width;
    ports(s, both);
    memcpy(out->data, s->mean, size * 4);
    out->data[size] = 0;
    out->shape[0] = 1, out->shape[1] = h, out->shape[2] = w;
    out->shape[3] = 1;
    out->tensors[0] = (ZooTensor){{(const uint8_t *)"0", 1}, ZOO_F32, 3, out->shape, out->data, size * 4, 0, 0};
    out->tensors[1] = (ZooTensor){{(const uint8_t *)"1", 1}, ZOO_F32, 1, out->shape + 3, out->data + size, 4, 0, 0};
    sprintf(text,
            "{\"name\":\"sample\",%s,\"initializers\":[[\"mean\",0],[\"zero\",1]],\"nodes\":["
            "{\"name\":\"nothing\",\"op\":\"Mul\",\"inputs\":[\"noise\",\"zero\"],\"outputs\":[\"nothing\"]},"
            "{\"name\":\"x\",\"op\":\"Add\",\"inputs\":[\"nothing\",\"mean\"],\"outputs\":[\"x\"]}],\"types\":{"
            "\"noise\":[\"f32\",[\"N\",1,%llu,%llu]],\"nothing\":[\"f32\",[\"N\",1,%llu,%llu]],"
            "\"x\":[\"f32\",[\"N\",1,%llu,%llu]],\"mean\":[\"f32\",[1,%llu,%llu]],\"zero\":[\"f32\",[1]]}}",
            both, h, w, h, w, h, w, h, w);
    reply->json = (ZooText){(const uint8_t *)text, strlen(text)};
    reply->tensors = out->tensors;
    reply->n_tensors = 2;
    reply->owner = out;
    reply->release = free;
    reply->status = ZOO_OK;
}

static void answer(void *state, const ZooCall *call, ZooReply *reply) {
    (void)state;
    if (call->size < sizeof(ZooCall) || reply->size < sizeof(ZooReply)) return;
    Session *session = 0;
    if (call->session > 0 && call->session <= 16 && sessions[call->session - 1].used)
        session = &sessions[call->session - 1];
    if (call->op == ZOO_DESCRIBE) return say(reply, DESCRIPTION);
    if (call->op == ZOO_TRAIN) return train(call, reply);
    if (call->op == ZOO_OPEN) return open_session(call, reply);
    if (!session) return fail(reply, "there is no such session");
    switch (call->op) {
    case ZOO_CLOSE:
        session->used = 0;
        return say(reply, "null");
    case ZOO_GRAPHS:
        return graphs(session, reply);
    case ZOO_RUN:
        return run(session, call, reply);
    case ZOO_EVALUATE:
        return say(reply, "{\"squared_error\":0.5}");
    case ZOO_EXPORT:
        return export_graph(session, reply);
    default:
        return fail(reply, "unknown operation");
    }
}

const ZooPeer *zoo_plugin_v1(uint32_t host_minor) {
    static const ZooPeer peer = {sizeof peer, 1, 0, 0, 0, answer};
    (void)host_minor;
    return &peer;
}
