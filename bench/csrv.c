/* csrv - the limit: a server in C that broadcasts, or echoes, and does nothing else.
 *
 *   gcc -O3 -march=native -o csrv csrv.c
 *   csrv PORT         broadcast: all messages that one epoll_wait brings in are framed once, into
 *                     one batch; then each connection gets it, less its own messages, in one send()
 *   csrv echo PORT    echo: what one read brings in goes back in one send()
 *
 * There are no limits, no UTF-8 check, no fragments, no control frames, and one answer to every
 * handshake: the one to wsload's key.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

typedef struct {
    u32 from, to;
} span;

typedef struct {
    int fd;
    u32 pos; /* its place in conns */
    u8 open, wants_out;
    u8 *in;
    u32 in_len, in_cap;
    u8 *out;
    u32 out_len, out_off, out_cap;
    span *own; /* the parts of the batch that this connection has sent */
    u32 nown, own_cap;
} conn;

#define MAX_CONNS 70000
static conn *conns[MAX_CONNS];
static u32 nconns;
static int ep, is_echo;
static u8 *batch;
static u32 batch_len, batch_cap;
static u8 rbuf[1 << 18];

static void drop(conn *c) {
    epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
    conns[c->pos] = conns[--nconns];
    conns[c->pos]->pos = c->pos;
}

/* ---------------- out ---------------- */
static void want_out(conn *c, int on) {
    if (c->wants_out == on) return;
    c->wants_out = on;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void keep(conn *c, const u8 *p, u32 n) {
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (c->out_len + n) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
    want_out(c, 1);
}

static void put(conn *c, const u8 *p, u32 n) {
    ssize_t r = 0;
    if (!c->out_len) r = send(c->fd, p, n, MSG_NOSIGNAL);
    if (r < 0) r = 0;
    if ((u32)r < n) keep(c, p + r, n - r);
}

static void drain(conn *c) {
    ssize_t r = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
    if (r > 0) c->out_off += r;
    if (c->out_off < c->out_len) return;
    c->out_off = c->out_len = 0;
    want_out(c, 0);
}

static void put_vector(conn *c, const struct iovec *v, int n) {
    ssize_t r = 0;
    if (!c->out_len) r = writev(c->fd, v, n);
    if (r < 0) r = 0;
    for (int i = 0; i < n; i++) {
        size_t sent = (size_t)r < v[i].iov_len ? (size_t)r : v[i].iov_len;
        r -= sent;
        if (sent < v[i].iov_len) keep(c, (u8 *)v[i].iov_base + sent, v[i].iov_len - sent);
    }
}

static void put_batch(conn *c) {
    if (!c->nown) {
        put(c, batch, batch_len);
        return;
    }
    struct iovec v[1024];
    int n = 0;
    u32 from = 0;
    for (u32 i = 0; i <= c->nown; i++) {
        u32 to = i < c->nown ? c->own[i].from : batch_len;
        if (to > from) v[n++] = (struct iovec){batch + from, to - from};
        if (i < c->nown) from = c->own[i].to;
        if (n == 1024) {
            put_vector(c, v, n);
            n = 0;
        }
    }
    if (n) put_vector(c, v, n);
    c->nown = 0;
}

/* ---------------- in ---------------- */
static void add_frame(conn *c, u8 op, const u8 *p, u64 len, const u8 *key) {
    if (batch_len + len + 10 > batch_cap) {
        batch_cap = (batch_len + len + 10) * 2;
        batch = realloc(batch, batch_cap);
    }
    u32 from = batch_len;
    u8 *o = batch + from;
    *o++ = 0x80 | op;
    if (len < 126) {
        *o++ = len;
    } else if (len < 65536) {
        *o++ = 126;
        *o++ = len >> 8;
        *o++ = len;
    } else {
        *o++ = 127;
        for (int i = 7; i >= 0; i--) *o++ = len >> (8 * i);
    }
    u64 key8, word, i = 0;
    memcpy(&key8, key, 4);
    memcpy((u8 *)&key8 + 4, key, 4);
    for (; i + 8 <= len; i += 8) {
        memcpy(&word, p + i, 8);
        word ^= key8;
        memcpy(o + i, &word, 8);
    }
    for (; i < len; i++) o[i] = p[i] ^ key[i & 3];
    batch_len = o + len - batch;
    if (is_echo) return;

    if (c->nown && c->own[c->nown - 1].to == from) {
        c->own[c->nown - 1].to = batch_len;
        return;
    }
    if (c->nown == c->own_cap) {
        c->own_cap = c->own_cap * 2 + 8;
        c->own = realloc(c->own, c->own_cap * sizeof *c->own);
    }
    c->own[c->nown++] = (span){from, batch_len};
}

/* Return how many bytes were used, or -1 when the client closes. */
static ssize_t parse(conn *c, const u8 *p, size_t n) {
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    size_t used = 0;
    if (!c->open) {
        const u8 *end = memmem(p, n, "\r\n\r\n", 4);
        if (!end) return 0;
        c->open = 1;
        put(c, (const u8 *)answer, sizeof answer - 1);
        used = end + 4 - p;
    }
    while (n - used >= 6) {
        const u8 *f = p + used;
        u32 head = 2;
        u64 len = f[1] & 127;
        if (len == 126) {
            if (n - used < 8) break;
            len = f[2] << 8 | f[3];
            head = 4;
        } else if (len == 127) {
            if (n - used < 14) break;
            len = 0;
            for (int i = 0; i < 8; i++) len = len << 8 | f[2 + i];
            head = 10;
        }
        if (n - used < head + 4 + len) break;
        u8 op = f[0] & 15;
        if (op == 8) return -1;
        if (op < 3) add_frame(c, op, f + head + 4, len, f + head);
        used += head + 4 + len;
    }
    return used;
}

static void on_readable(conn *c) {
    memcpy(rbuf, c->in, c->in_len);
    ssize_t r = recv(c->fd, rbuf + c->in_len, sizeof rbuf - c->in_len, 0);
    if (r < 0 && errno == EAGAIN) return;
    size_t n = c->in_len + r;
    ssize_t used = r > 0 ? parse(c, rbuf, n) : -1;
    if (is_echo && batch_len) {
        put(c, batch, batch_len);
        batch_len = 0;
    }
    if (used < 0) {
        drop(c);
        return;
    }
    c->in_len = n - used;
    if (c->in_len > c->in_cap) {
        c->in_cap = c->in_len * 2;
        c->in = realloc(c->in, c->in_cap);
    }
    memcpy(c->in, rbuf + used, c->in_len);
}

static void on_connection(int listener) {
    int fd, one = 1;
    while (nconns < MAX_CONNS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn *c = calloc(1, sizeof *c);
        c->in = malloc(c->in_cap = 1024);
        c->fd = fd;
        c->pos = nconns;
        conns[nconns++] = c;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}

/* ---------------- life ---------------- */
static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
        perror("csrv");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    is_echo = argc == 3 && !strcmp(argv[1], "echo");
    if (argc != 2 + is_echo) {
        fprintf(stderr, "usage: csrv [echo] PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int listener = listen_on(atoi(argv[argc - 1]));
    ep = epoll_create1(0);
    struct epoll_event events[1024], e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            conn *c = events[i].data.ptr;
            if (!c) {
                on_connection(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT) drain(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
        if (!batch_len) continue;
        for (u32 i = 0; i < nconns; i++)
            if (conns[i]->open) put_batch(conns[i]);
        batch_len = 0;
    }
}
