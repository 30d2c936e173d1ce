/* A plugin that does one thing wrong, which -DMODE="..." names. Everything else it does right. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zoo_plugin_v1.h"

#ifndef MODE
#define MODE "none"
#endif
#ifndef MAJOR
#define MAJOR ZOO_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR ZOO_ABI_MINOR
#endif
#ifndef MAGIC
#define MAGIC "zoo plugin meta\n"
#endif
#ifndef META
#define META "{\"package\":\"hostile\",\"version\":\"1\"}"
#endif
#ifndef META_LEN
#define META_LEN (sizeof META - 1)
#endif

static int mode(const char *name) { return strcmp(MODE, name) == 0; }

#ifndef NO_META
/* The first 16 bytes alone: no room for a terminating zero. */
const ZooMeta ZOO_PLUGIN_META = {MAGIC, MAJOR, MINOR, META_LEN, 0, META};
#endif

#define DESCRIPTION(name, version)                                                                                     \
    "[{\"name\":\"" name "\",\"summary\":\"s\",\"family\":\"f\",\"density\":\"none\",\"paper\":{\"title\":\"t\","      \
    "\"authors\":\"a\",\"year\":2000,\"url\":\"http://x\"},\"version\":\"" version "\",\"graphs\":{\"shift\":\"d\"},"  \
    "\"best_metric\":null,\"model_schema\":{},\"train_schema\":{},\"defaults\":{\"model\":{},\"train\":{}}}]"
#define PORT(name) "{\"name\":\"" name "\",\"shape\":[\"N\",2],\"dtype\":\"f32\"}"
#define GRAPHS                                                                                                         \
    "[{\"name\":\"shift\",\"doc\":\"d\",\"inputs\":[" PORT("x") "],\"outputs\":[" PORT("y") "]}]"

static void say(ZooReply *reply, const char *text) {
    reply->json.ptr = (const uint8_t *)text;
    reply->json.len = strlen(text);
    reply->status = ZOO_OK;
}

static void fail(ZooReply *reply, const char *text) {
    say(reply, text);
    reply->status = ZOO_ERROR;
}

static int deep(volatile char *above) {
    volatile char here[4096];
    here[0] = above[0];
    return deep(here) + here[0];
}

/* What only a process of its own survives. */
static void misbehave(void) {
    if (mode("abort")) abort();
    if (mode("segv")) *(volatile int *)8 = 1;
    if (mode("overflow")) {
        volatile char top = 0;
        deep(&top);
    }
    if (mode("exit")) exit(0);
    if (mode("loop"))
        for (;;) {
        }
    if (mode("memory"))
        for (;;) {
            char *taken = malloc(16 << 20);
            if (!taken) abort();
            memset(taken, 1, 16 << 20);
        }
    if (mode("garbage"))
        for (int fd = 3; fd < 64; fd++) {
            ssize_t ignored = write(fd, "garbage, garbage, garbage, garbage, garbage", 43);
            (void)ignored;
        }
    if (mode("flood"))
        for (int fd = 3; fd < 64; fd++) {
            static const uint32_t head[8] = {0x316f6f7a, 2, 101, 0, 0, 0, 0xffffffff, 0};
            ssize_t ignored = write(fd, head, sizeof head);
            (void)ignored;
        }
    if (mode("close"))
        for (int fd = 3; fd < 64; fd++) close(fd);
    if (mode("print")) {
        printf("{\"this\": \"is no result\"}\n");
        fflush(stdout);
    }
}

static void call_back(const ZooCall *call, uint32_t op, const char *json, const ZooTensor *tensors, uint64_t n,
                      ZooReply *reply) {
    ZooCall back = {sizeof back, op, 0, {(const uint8_t *)json, strlen(json)}, tensors, n, 0};
    memset(reply, 0, sizeof *reply);
    reply->size = sizeof *reply;
    call->host->call(call->host->state, &back, reply);
    if (reply->release) reply->release(reply->owner);
}

#define STATE "{\"step\":1,\"images\":2,\"seed\":3,\"model\":[\"hostile\",\"1\"],\"config\":null,\"updates\":{}}"

static void train(const ZooCall *call, ZooReply *reply) {
    static const float mean[2] = {1, 2};
    static const uint64_t shape[1] = {2};
    ZooTensor weight = {{(const uint8_t *)"model/mean", 10}, ZOO_F32, 1, shape, mean, 8, 0, 0};
    ZooReply answer;
    if (mode("back_unknown")) {
        call_back(call, 999, "{}", 0, 0, &answer);
        return fail(reply, answer.status == ZOO_ERROR ? "{\"kind\":\"host\",\"message\":\"refused: 999\"}"
                                                      : "{\"kind\":\"internal\",\"message\":\"accepted\"}");
    }
    if (mode("back_broken")) {
        weight.bytes = 7;
        call_back(call, ZOO_CHECKPOINT, "{\"step\":1,\"ema\":false,\"state\":" STATE "}", &weight, 1, &answer);
        return fail(reply, answer.status == ZOO_ERROR ? "{\"kind\":\"host\",\"message\":\"refused: 7 bytes\"}"
                                                      : "{\"kind\":\"internal\",\"message\":\"accepted\"}");
    }
    if (mode("event_newer") || mode("event_broken")) {
        const char *event = mode("event_newer") ? "{\"event\":\"weather\",\"sun\":true}" : "{\"event\":\"step\",\"step\":1}";
        call_back(call, ZOO_PROGRESS, event, 0, 0, &answer);
        if (answer.status != ZOO_OK) return fail(reply, "{\"kind\":\"host\",\"message\":\"refused: the event\"}");
    }
    call_back(call, ZOO_CHECKPOINT, "{\"step\":1,\"ema\":false,\"state\":" STATE "}", &weight, 1, &answer);
    if (answer.status != ZOO_OK) return fail(reply, "{\"kind\":\"host\",\"message\":\"no checkpoint\"}");
    misbehave();
    if (mode("train_report")) return say(reply, "{\"reason\":\"bored\",\"step\":1,\"seconds\":0}");
    say(reply, "{\"reason\":\"finished\",\"step\":1,\"seconds\":0}");
}

static void run(const ZooCall *call, ZooReply *reply) {
    static float data[2] = {1, 2};
    static uint64_t shape[3] = {1, 2, 1};
    static ZooTensor out[2];
    out[0] = (ZooTensor){{(const uint8_t *)"y", 1}, ZOO_F32, 2, shape, data, 8, 0, 0};
    out[1] = out[0];
    reply->tensors = out;
    reply->n_tensors = 1;
    (void)call;
    if (mode("run_rank")) out[0].rank = 4000000000u;
    if (mode("run_dims")) out[0].rank = 3;
    if (mode("run_overflow")) shape[0] = UINT64_MAX / 2;
    if (mode("run_huge")) shape[0] = 1ull << 40, out[0].bytes = 8ull << 40;
    if (mode("run_short")) out[0].bytes = 7;
    if (mode("run_dtype")) out[0].dtype = 99;
    if (mode("run_other")) out[0].dtype = ZOO_I32;
    if (mode("run_null")) out[0].data = 0;
    if (mode("run_misaligned")) out[0].data = (char *)data + 1;
    if (mode("run_shape")) out[0].shape = 0;
    if (mode("run_twice")) reply->n_tensors = 2;
    if (mode("run_many")) reply->n_tensors = 1ull << 60;
    if (mode("run_list")) reply->tensors = 0;
    if (mode("run_name")) out[0].name = (ZooText){(const uint8_t *)"\xff\xfe", 2};
    if (mode("run_long_name")) out[0].name.len = 1ull << 50;
    if (mode("run_device")) out[0].device = 3;
    say(reply, "null");
    if (mode("json_huge")) reply->json.len = 1ull << 40;
    if (mode("json_null")) reply->json.ptr = 0;
    if (mode("error_not_utf8")) fail(reply, "{\"kind\":\"input\",\"message\":\"\xff\xfe\"}");
    if (mode("error_not_json")) fail(reply, "it just failed");
    if (mode("error_terminal")) fail(reply, "{\"kind\":\"input\",\"message\":\"\\u001b]0;gotcha\\u0007\"}");
    if (mode("error_empty")) fail(reply, "{\"kind\":\"input\",\"message\":\"\"}");
}

static void answer(void *state, const ZooCall *call, ZooReply *reply) {
    static int asked = 0;
    (void)state;
    if (call->size < sizeof(ZooCall) || reply->size < sizeof(ZooReply)) return;
    switch (call->op) {
    case ZOO_DESCRIBE:
        asked++;
        if (mode("describe_silent")) return;
        if (mode("describe_status")) return say(reply, ""), (void)(reply->status = 9);
        if (mode("describe_not_utf8")) return say(reply, "[\"\xff\"]");
        if (mode("describe_not_json")) return say(reply, "[{]");
        if (mode("describe_none")) return say(reply, "[]");
        if (mode("describe_name")) return say(reply, DESCRIPTION("../etc", "1"));
        if (mode("describe_changes") && asked % 2) return say(reply, DESCRIPTION("hostile", "2"));
        if (mode("describe_terminal")) return say(reply, DESCRIPTION("hostile", "\\u001b[2J"));
        if (mode("describe_abort")) abort();
        if (mode("describe_loop"))
            for (;;) {
            }
        return say(reply, DESCRIPTION("hostile", "1"));
    case ZOO_TRAIN:
        return train(call, reply);
    case ZOO_OPEN:
        if (mode("open_no_id")) return say(reply, "{}");
        return say(reply, "{\"session\":7}");
    case ZOO_CLOSE:
        return say(reply, "null");
    case ZOO_GRAPHS:
        if (mode("graphs_twice")) return say(reply, "[{\"name\":\"a\",\"doc\":\"\",\"inputs\":[],\"outputs\":[]}]");
        return say(reply, GRAPHS);
    case ZOO_RUN:
        if (call->session != 7) return fail(reply, "{\"kind\":\"internal\",\"message\":\"no such session\"}");
        return run(call, reply);
    case ZOO_EVALUATE:
        if (mode("metrics_nan")) return say(reply, "{\"nll\":null}");
        if (mode("metrics_inf")) return say(reply, "{\"nll\":\"inf\"}");
        if (mode("metrics_text")) return say(reply, "{\"nll\":\"good\"}");
        return say(reply, "{\"nll\":1.5}");
    default:
        return fail(reply, "{\"kind\":\"internal\",\"message\":\"unknown operation\"}");
    }
}

#ifndef NO_ENTRY
const ZooPeer *zoo_plugin_v1(uint32_t host_minor) {
    static ZooPeer peer = {sizeof peer, MAJOR, MINOR, 0, 0, answer};
    (void)host_minor;
    if (mode("table_null")) return 0;
    if (mode("table_short")) peer.size = 8;
    if (mode("table_major")) peer.major = 2;
    if (mode("table_call")) peer.call = 0;
    return &peer;
}
#endif
