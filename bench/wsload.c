/* wsload - WebSocket load generator (Linux; one thread, epoll, no dependencies).
 *
 *   gcc -O3 -march=native -o wsload wsload.c
 *   wsload fanout --port 9000 -n 1000 -p 10 -w 60 -t 3    closed loop
 *   wsload fanout --port 9000 -n 1000 -p 10 -r 100 -t 3   open loop
 *   wsload echo   --port 9000 -n 100 -w 16
 *   wsload conns  --port 9000 -n 10000 --server-pid PID
 *
 * Payload of every message: 16 hex digits = CLOCK_MONOTONIC ns timestamp,
 * 4 hex digits = publisher number, 12 hex digits = sequence number, then 'x'
 * padding up to --size.  Text-safe, so text frames are valid UTF-8.
 *
 * Options (and defaults):
 *   --host, --port, --path     where the server is (127.0.0.1, 9000, /)
 *   --pub-path PATH            another path for publishers
 *   -n, --subs, --conns N      subscribers (fanout), echo or idle connections (100)
 *   -p, --pubs P               publishers: clients that also get the others' messages (1)
 *   -s, --size S               payload bytes, at least 32 (128)
 *   -w, --window W             closed loop: messages in flight, W/P for each publisher, at least
 *                              one; echo: for each connection (64)
 *   -r, --rate R               open loop: messages published per second, by all publishers; latency
 *                              counts from the scheduled time (no coordinated omission)
 *   --poisson 1                open loop: exponential gaps, random publisher
 *   --self 1                   the server sends a message to its sender too
 *   --pub-recv 0               publishers receive nothing
 *   --binary                   binary messages
 *   --json                     JSON instead of 'x' behind the first 32 bytes
 *   --deflate                  compress, and let the server (permessage-deflate, without context
 *                              takeover); needs zlib: gcc -DDEFLATE ... -lz
 *   -t, --time T, --warmup T   seconds measured, and seconds before that (5, 1)
 *   --stall T                  give up after so many seconds without a delivery (3)
 *   --hold-ms MS               conns: how long the connections stay open, idle (1000)
 *   --conc K                   handshakes under way at once (40)
 *   --src-ips K                spread connections over K loopback addresses (4)
 *   --spin 0                   sleep in epoll_wait; polling keeps wake-ups out of the server's time
 *   --server-pid PID           report CPU seconds and memory of this process and its children
 *   --server-cpu K             report the busy seconds of core K
 *   --label TEXT               repeated in the output
 *
 * Prints one JSON object.  Every receiver checks the sequence numbers of every publisher; exit
 * status 1 when a message was lost, duplicated or reordered, a connection was closed, or nothing
 * moved any more.  client_idle near 0 means that wsload, not the server, was the limit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef DEFLATE
#include <zlib.h>
#endif

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;
#define HDRLEN 32 /* ts(16) + pub(4) + seq(12) */
#define NS 1000000000ull
#define PART 2048 /* bytes of one message that may wait for the rest */
#define MASK64 0x3d21fa373d21fa37ull /* key bytes 37 fa 21 3d */

static inline u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * NS + t.tv_nsec;
}

static void die(const char *m) {
    perror(m);
    exit(2);
}

/* ---------------- options ---------------- */
enum { FANOUT, ECHO, CONNS };

static int mode;
static const char *host = "127.0.0.1", *path = "/", *pub_path = NULL, *label = "";
static int port = 9000, nsubs = 100, npubs = 1, size_ = 128, window = 64, self_ = 0, conc = 40,
           spin = 1, binary = 0, src_ips = 4, hold_ms = 1000, pub_recv = 1, json = 0, deflate_ = 0;
static int poisson = 0;
static double dur = 5, warm = 1, rate = 0, stall_s = 3;
static int server_pid = 0, server_cpu = -1, src_base = 0;

/* ---------------- connections ---------------- */
enum { S_CONNECTING, S_HTTP, S_OPEN, S_CLOSED };

typedef struct conn {
    int fd;
    u32 idx;
    int pub; /* publisher number, -1 for subscribers */
    u8 state, want_out, in_dirty;
    /* in: bytes kept until the rest of a header, or of a compressed message, is there;
       bytes still to skip of a known message */
    u8 *part;
    u32 part_len;
    u64 skip;
    u8 cur_ok;
    u64 cur_ts;
    u32 cur_pub;
    u64 cur_seq;
    /* out */
    u8 *out;
    u32 out_len, out_cap, out_off;
    u64 next_seq;
    u32 refill;      /* echo: messages to send again */
    u32 outstanding; /* closed loop: messages of this publisher in flight */
} conn;

static conn *C;
static int nconn;
static int ep;
static int P;      /* publishers */
static u32 *expct; /* next sequence number [receiver][publisher] */
static u32 *miss;  /* numbers left out so far [receiver][publisher]: lost, or late */
/* closed loop: receivers still to get it [publisher][sequence number & rem_mask] */
static u32 **rem_;
static u32 rem_mask;
static u64 nopen, nfailed, nclosed;

/* ---------------- stats ---------------- */
static u64 hist[64 * 64];
static u64 hmax;

static inline void hrec(u64 v) {
    if ((int64_t)v < 0) v = 0;
    if (v > hmax) hmax = v;
    u32 i;
    if (v < 64)
        i = v;
    else {
        int e = 63 - __builtin_clzll(v);
        i = ((e - 5) << 6) | ((v >> (e - 6)) & 63);
    }
    hist[i]++;
}

static double hval(u32 i) {
    if (i < 64) return i;
    int e = (i >> 6) + 5;
    u64 b = (64ull | (i & 63)) << (e - 6);
    return b + (1ull << (e - 6)) / 2.0;
}

static double hpct(double q) {
    u64 t = 0, s = 0;
    for (int i = 0; i < 4096; i++) t += hist[i];
    if (!t) return 0;
    u64 k = (u64)(q * t);
    if (k >= t) k = t - 1;
    for (int i = 0; i < 4096; i++) {
        s += hist[i];
        if (s > k) return hval(i);
    }
    return hmax;
}

static int measuring;
static u64 total_deliv, meas_deliv, meas_published, lost, dup_, reord, other, proto_err, pings;
static u64 sent_total;
static u64 last_deliv_ns;
static conn **dirty;
static int ndirty;

static inline void mark(conn *c) {
    if (!c->in_dirty) {
        c->in_dirty = 1;
        dirty[ndirty++] = c;
    }
}

/* ---------------- hex ---------------- */
static inline u64 unhex8(const u8 *p) {
    u64 v;
    memcpy(&v, p, 8);
    v = (v & 0x0f0f0f0f0f0f0f0full) + ((v >> 6) & 0x0101010101010101ull) * 9;
    v = __builtin_bswap64(v);
    v = (v | (v >> 4)) & 0x00ff00ff00ff00ffull;
    v = (v | (v >> 8)) & 0x0000ffff0000ffffull;
    v = (v | (v >> 16)) & 0xffffffffull;
    return v;
}

static inline u64 unhex16(const u8 *p) {
    return (unhex8(p) << 32) | unhex8(p + 8);
}

static inline void hex16(u8 *o, u64 v) {
    for (int i = 15; i >= 0; i--) {
        o[i] = "0123456789abcdef"[v & 15];
        v >>= 4;
    }
}

/* ---------------- frames out ---------------- */
static u8 *text; /* the payload of all messages, but for their header */
static u8 *tmpl; /* the frame, masked */
static u32 tmpl_len, tmpl_hdr;

static void make_text(void) {
    text = malloc(size_ + 128);
    memset(text, 'x', size_);
    for (u32 n = HDRLEN, v = 1; json && n < (u32)size_;) {
        v = v * 1664525 + 1013904223;
        n += sprintf((char *)text + n,
                     "%c{\"id\":%u,\"symbol\":\"%c%c%c\",\"price\":%u.%02u,\"volume\":%u}",
                     n == HDRLEN ? '[' : ',', 100000 + v % 900000, 'A' + v / 7 % 26,
                     'A' + v / 911 % 26, 'A' + v / 104729 % 26, v % 977, v / 977 % 100,
                     v / 65536 % 10000);
    }
}

static void make_tmpl(void) {
    make_text();
    tmpl = malloc(size_ + 16);
    u32 n = 0;
    tmpl[n++] = binary ? 0x82 : 0x81;
    if (size_ < 126)
        tmpl[n++] = 0x80 | size_;
    else if (size_ < 65536) {
        tmpl[n++] = 0x80 | 126;
        tmpl[n++] = size_ >> 8;
        tmpl[n++] = size_ & 255;
    } else {
        tmpl[n++] = 0x80 | 127;
        for (int i = 7; i >= 0; i--) tmpl[n++] = ((u64)size_ >> (8 * i)) & 255;
    }
    u64 m = MASK64;
    memcpy(tmpl + n, &m, 4);
    n += 4;
    tmpl_hdr = n;
    for (int i = 0; i < size_; i++) tmpl[n + i] = text[i] ^ tmpl[n - 4 + (i & 3)];
    tmpl_len = n + size_;
}

static u8 *out_reserve(conn *c, u32 n) {
    if (c->out_len + n > c->out_cap) {
        if (c->out_off) {
            memmove(c->out, c->out + c->out_off, c->out_len - c->out_off);
            c->out_len -= c->out_off;
            c->out_off = 0;
        }
        if (c->out_len + n > c->out_cap) {
            c->out_cap = (c->out_len + n) * 2;
            c->out = realloc(c->out, c->out_cap);
            if (!c->out) die("realloc");
        }
    }
    u8 *p = c->out + c->out_len;
    c->out_len += n;
    return p;
}

static void put_deflated(conn *c);

static inline void put_msg(conn *c, u64 ts) {
    u8 h[HDRLEN];
    u64 pubno = c->pub & 0xffff;
    hex16(h, ts);
    hex16(h + 16, (pubno << 48) | (c->next_seq & 0xffffffffffffull));
    if (deflate_) {
        memcpy(text, h, HDRLEN);
        put_deflated(c);
    } else {
        u8 *f = out_reserve(c, tmpl_len);
        memcpy(f, tmpl, tmpl_len);
        u64 w[4];
        memcpy(w, h, 32);
        for (int i = 0; i < 4; i++) w[i] ^= MASK64;
        memcpy(f + tmpl_hdr, w, 32);
    }
    c->next_seq++;
    sent_total++;
    if (measuring) meas_published++;
}

static void conn_close(conn *c) {
    if (c->state == S_CLOSED) return;
    c->state = S_CLOSED;
    nclosed++;
    epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
}

static void set_out(conn *c, int on) {
    if (c->want_out == on) return;
    c->want_out = on;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(conn *c) {
    if (c->state == S_CLOSED) return;
    while (c->out_off < c->out_len) {
        ssize_t r = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (r < 0) {
            if (errno == EAGAIN) {
                set_out(c, 1);
                return;
            }
            if (errno == EINTR) continue;
            conn_close(c);
            return;
        }
        c->out_off += r;
    }
    c->out_off = c->out_len = 0;
    if (c->want_out) set_out(c, 0);
}

static void put_ctl(conn *c, int op, const u8 *d, int n) {
    u8 *f = out_reserve(c, 6 + n);
    u64 m = MASK64;
    f[0] = 0x80 | op;
    f[1] = 0x80 | n;
    memcpy(f + 2, &m, 4);
    for (int i = 0; i < n; i++) f[6 + i] = d[i] ^ f[2 + (i & 3)];
}

/* ---------------- compressed messages (RFC 7692) ---------------- */
#ifdef DEFLATE
static void put_deflated(conn *c) {
    static z_stream z;
    if (z.state)
        deflateReset(&z);
    else
        deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    static u8 out[PART + 64];
    z.next_in = text;
    z.avail_in = size_;
    z.next_out = out;
    z.avail_out = sizeof out;
    deflate(&z, Z_SYNC_FLUSH);
    u32 len = z.total_out - 4; /* without the empty block of the flush */
    u32 head = len < 126 ? 2 : 4;
    u64 m = MASK64;
    u8 *f = out_reserve(c, head + 4 + len);
    f[0] = 0xc0 | (binary ? 2 : 1);
    f[1] = 0x80 | (len < 126 ? len : 126);
    if (head == 4) {
        f[2] = len >> 8;
        f[3] = len & 255;
    }
    f += head;
    memcpy(f, &m, 4);
    for (u32 i = 0; i < len; i++) f[4 + i] = out[i] ^ f[i & 3];
}

/* All receivers get the same bytes, so each message is inflated once and then remembered. */
typedef struct {
    u32 len;
    u8 payload[PART];
    u64 ts, ps;
} known;

static const known *inflated(u8 *p, u32 len) {
    static z_stream z;
    static known seen[4096];
    static u8 out[PART * 4];
    u64 key = len, word;
    for (u32 i = 0; i + 8 <= len; i += 8) {
        memcpy(&word, p + i, 8);
        key = (key ^ word) * 0x9e3779b97f4a7c15ull;
    }
    known *k = &seen[key >> 52];
    if (k->len == len && !memcmp(k->payload, p, len)) return k;
    if (z.state)
        inflateReset(&z);
    else
        inflateInit2(&z, -15);
    u8 *parts[] = {p, (u8 *)"\0\0\xff\xff"};
    u32 sizes[] = {len, 4};
    z.next_out = out;
    z.avail_out = sizeof out;
    for (int i = 0; i < 2; i++) {
        z.next_in = parts[i];
        z.avail_in = sizes[i];
        if (inflate(&z, Z_SYNC_FLUSH) != Z_OK) return NULL;
    }
    if (z.total_out != (u32)size_ || memcmp(out + HDRLEN, text + HDRLEN, size_ - HDRLEN))
        return NULL;
    k->len = len;
    memcpy(k->payload, p, len);
    k->ts = unhex16(out);
    k->ps = unhex16(out + 16);
    return k;
}
#else
typedef struct {
    u64 ts, ps;
} known;

static void put_deflated(conn *c) { (void)c; }

static const known *inflated(u8 *p, u32 len) { return (void)p, (void)len, NULL; }
#endif

/* ---------------- frames in ---------------- */
static void bad_seq(u32 *e, u32 seq, u32 k) {
    if ((int32_t)(seq - *e) > 0) {
        lost += seq - *e;
        miss[k] += seq - *e;
        *e = seq + 1;
    } else if (miss[k]) {
        miss[k]--;
        lost--;
        reord++;
    } else
        dup_++;
}

static inline void account(conn *c, u64 ts, u32 pub, u32 seq, u64 now) {
    if (mode == ECHO) {
        if (__builtin_expect(pub != (c->idx & 0xffff), 0)) {
            other++;
            return;
        }
        if (__builtin_expect(seq == expct[c->idx], 1))
            expct[c->idx]++;
        else
            bad_seq(&expct[c->idx], seq, c->idx);
        c->refill++;
        mark(c);
    } else {
        if (__builtin_expect(pub >= (u32)P, 0)) {
            other++;
            return;
        }
        u32 k = c->idx * P + pub;
        u32 *e = &expct[k];
        if (__builtin_expect(seq == *e, 1))
            (*e)++;
        else
            bad_seq(e, seq, k);
        if (rem_) {
            if (--rem_[pub][seq & rem_mask] == 0) {
                conn *p = &C[nsubs + pub];
                p->outstanding--;
                mark(p);
            }
        }
    }
    total_deliv++;
    if (measuring) {
        meas_deliv++;
        hrec(now - ts);
    }
}

static void parse(conn *c, u8 *p, size_t n, u64 now) {
    while (n) {
        if (c->skip) {
            size_t t = n < c->skip ? n : c->skip;
            p += t;
            n -= t;
            c->skip -= t;
            if (c->skip) return;
            if (c->cur_ok) account(c, c->cur_ts, c->cur_pub, c->cur_seq, now);
            continue;
        }
        if (n < 2) goto part;
        u32 op = p[0] & 15, h = 2;
        u64 len = p[1] & 127;
        if (__builtin_expect(p[1] & 0x80, 0)) {
            proto_err++;
            conn_close(c);
            return;
        }
        if (len == 126) {
            if (n < 4) goto part;
            len = (p[2] << 8) | p[3];
            h = 4;
        } else if (len == 127) {
            if (n < 10) goto part;
            len = 0;
            for (int i = 0; i < 8; i++) len = (len << 8) | p[2 + i];
            h = 10;
        }
        if (__builtin_expect(op >= 8, 0)) {
            if (n < h + len) goto part;
            if (op == 9) {
                pings++;
                put_ctl(c, 10, p + h, len);
                mark(c);
            } else if (op == 8) {
                put_ctl(c, 8, p + h, len >= 2 ? 2 : 0);
                flush(c);
                conn_close(c);
                return;
            }
            p += h + len;
            n -= h + len;
            continue;
        }
        if (__builtin_expect(p[0] & 0x40, 0)) {
            if (h + len > PART) {
                proto_err++;
                conn_close(c);
                return;
            }
            if (n < h + len) goto part;
            const known *k = inflated(p + h, len);
            if (k)
                account(c, k->ts, k->ps >> 48, (u32)k->ps, now);
            else
                other++;
            p += h + len;
            n -= h + len;
            continue;
        }
        if (__builtin_expect(len != (u64)size_, 0)) {
            other++;
            c->cur_ok = 0;
            if (n >= h + len) {
                p += h + len;
                n -= h + len;
            } else {
                c->skip = h + len - n;
                return;
            }
            continue;
        }
        if (n < h + HDRLEN) goto part;
        u64 ts = unhex16(p + h), ps = unhex16(p + h + 16);
        if (n >= h + len) {
            p += h + len;
            n -= h + len;
            account(c, ts, ps >> 48, (u32)ps, now);
        } else {
            c->cur_ts = ts;
            c->cur_pub = ps >> 48;
            c->cur_seq = ps & 0xffffffffffffull;
            c->cur_ok = 1;
            c->skip = h + len - n;
            return;
        }
    }
    return;
part:
    memcpy(c->part, p, n);
    c->part_len = n;
}

#define RB (512 * 1024)
static u8 rbuf_[PART + RB];
static u8 *const rbuf = rbuf_ + PART;

static void on_http(conn *c, size_t n) {
    /* handshake response: kept in part (responses are small) */
    u8 *b = rbuf - c->part_len;
    memcpy(b, c->part, c->part_len);
    n += c->part_len;
    c->part_len = 0;
    u8 *e = memmem(b, n, "\r\n\r\n", 4);
    if (!e) {
        if (n >= PART) { /* keep status line + tail only */
            memmove(c->part, b, 16);
            memcpy(c->part + 16, b + n - 8, 8);
            c->part_len = 24;
        } else {
            memcpy(c->part, b, n);
            c->part_len = n;
        }
        return;
    }
    if (n < 12 || memcmp(b, "HTTP/1.1 101", 12)) {
        if (nfailed++ == 0) fprintf(stderr, "handshake refused: %.*s\n", (int)(e - b), b);
        conn_close(c);
        return;
    }
    if (deflate_ && !memmem(b, e - b, "permessage-deflate", 18)) {
        if (nfailed++ == 0) fprintf(stderr, "the server does not compress\n");
        conn_close(c);
        return;
    }
    c->state = S_OPEN;
    nopen++;
    size_t used = e + 4 - b;
    if (n > used) parse(c, b + used, n - used, now_ns());
}

static void on_readable(conn *c) {
    for (;;) {
        ssize_t r = recv(c->fd, rbuf, RB, 0);
        if (r <= 0) {
            if (r < 0 && (errno == EAGAIN || errno == EINTR)) return;
            if (c->state != S_OPEN) {
                if (nfailed++ == 0)
                    fprintf(stderr, "connection failed before handshake: %s\n",
                            r < 0 ? strerror(errno) : "eof");
            }
            conn_close(c);
            return;
        }
        if (c->state == S_HTTP) {
            on_http(c, r);
        } else {
            u64 t = now_ns();
            last_deliv_ns = t;
            u8 *b = rbuf;
            if (c->part_len) {
                b -= c->part_len;
                memcpy(b, c->part, c->part_len);
                r += c->part_len;
                c->part_len = 0;
            }
            parse(c, b, r, t);
        }
        if (r < RB || c->state == S_CLOSED) return;
    }
}

static void start_conn(conn *c) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
#ifdef IP_BIND_ADDRESS_NO_PORT
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
#endif
    struct sockaddr_in a = {.sin_family = AF_INET};
    if (!strncmp(host, "127.", 4)) {
        a.sin_addr.s_addr = htonl(0x7f000000u | (src_base << 8) | (2 + c->idx % src_ips));
        if (bind(fd, (void *)&a, sizeof a)) die("bind");
    }
    a.sin_port = htons(port);
    inet_pton(AF_INET, host, &a.sin_addr);
    c->fd = fd;
    c->state = S_CONNECTING;
    if (connect(fd, (void *)&a, sizeof a) && errno != EINPROGRESS) die("connect");
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    c->want_out = 1;
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static void on_connected(conn *c) {
    int err = 0;
    socklen_t l = sizeof err;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
    if (err) {
        if (nfailed++ == 0) fprintf(stderr, "connect: %s\n", strerror(err));
        conn_close(c);
        return;
    }
    char b[1024];
    int n = snprintf(b, sizeof b,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\n"
                     "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     (c->pub >= 0 && pub_path) ? pub_path : path, host, port,
                     deflate_ ? "Sec-WebSocket-Extensions: permessage-deflate; "
                                "client_no_context_takeover\r\n"
                              : "");
    if (send(c->fd, b, n, MSG_NOSIGNAL) != n) {
        nfailed++;
        conn_close(c);
        return;
    }
    c->state = S_HTTP;
    set_out(c, 0);
}

/* ---------------- event loop ---------------- */
static struct epoll_event evs[4096];
static u64 idle_ns;

static int pump(int timeout) {
    u64 t0 = 0;
    if (timeout == 0) t0 = now_ns();
    int n = epoll_wait(ep, evs, 4096, timeout);
    if (n == 0) {
        if (timeout == 0) idle_ns += now_ns() - t0;
        return 0;
    }
    for (int i = 0; i < n; i++) {
        conn *c = evs[i].data.ptr;
        u32 e = evs[i].events;
        if (c->state == S_CLOSED) continue;
        if (c->state == S_CONNECTING) {
            if (e & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(c);
            continue;
        }
        if (e & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)) on_readable(c);
        if ((e & EPOLLOUT) && c->state == S_OPEN) flush(c);
    }
    return n;
}

static double connect_all(int from, int to, double timeout) {
    u64 t0 = now_ns();
    int next = from;
    u64 base_done = nopen + nclosed;
    while (nopen + nclosed < base_done + (u64)(to - from)) {
        while (next < to && (u64)(next - from) - (nopen + nclosed - base_done) < (u64)conc)
            start_conn(&C[next++]);
        pump(100);
        if (now_ns() - t0 > timeout * 1e9) {
            fprintf(stderr, "timeout: %llu of %d open\n", (unsigned long long)nopen, to - from);
            break;
        }
        for (int i = 0; i < ndirty; i++) {
            dirty[i]->in_dirty = 0;
            flush(dirty[i]);
        }
        ndirty = 0;
    }
    return (now_ns() - t0) / 1e9;
}

/* ---------------- /proc ---------------- */
typedef struct {
    double utime, stime, cpu;
    long rss_kb;
    long pss_kb;
    int procs;
} procstat;

/* In seconds; /proc/PID/stat has hundredths only. */
static double cpu_clock(int pid) {
    clockid_t clock;
    struct timespec t = {0};
    if (!clock_getcpuclockid(pid, &clock)) clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static procstat tree(int root) {
    procstat r = {0};
    if (root <= 0) return r;

    static struct {
        int pid, ppid;
        double u, s;
    } t[8192];

    int n = 0;
    DIR *d = opendir("/proc");
    struct dirent *de;
    double tck = sysconf(_SC_CLK_TCK);
    while ((de = readdir(d)) && n < 8192) {
        if (!isdigit((u8)de->d_name[0])) continue;
        char fn[300], b[1024];
        snprintf(fn, sizeof fn, "/proc/%s/stat", de->d_name);
        int fd = open(fn, O_RDONLY);
        if (fd < 0) continue;
        int k = read(fd, b, sizeof b - 1);
        close(fd);
        if (k <= 0) continue;
        b[k] = 0;
        char *q = strrchr(b, ')');
        if (!q) continue;
        char st;
        int pp;
        unsigned long ut, stm;
        if (sscanf(q + 2, "%c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &st, &pp, &ut,
                   &stm) != 4)
            continue;
        t[n].pid = atoi(de->d_name);
        t[n].ppid = pp;
        t[n].u = ut / tck;
        t[n].s = stm / tck;
        n++;
    }
    closedir(d);
    static u8 in[8192];
    memset(in, 0, n);
    int ch = 1;
    for (int i = 0; i < n; i++)
        if (t[i].pid == root) in[i] = 1;
    while (ch) {
        ch = 0;
        for (int i = 0; i < n; i++)
            if (!in[i])
                for (int j = 0; j < n; j++)
                    if (in[j] && t[j].pid == t[i].ppid) {
                        in[i] = 1;
                        ch = 1;
                        break;
                    }
    }
    for (int i = 0; i < n; i++)
        if (in[i]) {
            r.utime += t[i].u;
            r.stime += t[i].s;
            r.cpu += cpu_clock(t[i].pid);
            r.procs++;
            char fn[64], l[256];
            snprintf(fn, sizeof fn, "/proc/%d/smaps_rollup", t[i].pid);
            FILE *f = fopen(fn, "r");
            if (f) {
                long v;
                while (fgets(l, sizeof l, f)) {
                    if (sscanf(l, "Rss: %ld", &v) == 1) r.rss_kb += v;
                    if (sscanf(l, "Pss: %ld", &v) == 1) r.pss_kb += v;
                }
                fclose(f);
            }
        }
    return r;
}

static double cpu_busy(int cpu) {
    if (cpu < 0) return 0;
    char want[16];
    int wl = snprintf(want, sizeof want, "cpu%d ", cpu);
    FILE *f = fopen("/proc/stat", "r");
    char l[512];
    double r = 0;
    while (f && fgets(l, sizeof l, f))
        if (!strncmp(l, want, wl)) {
            unsigned long v[8] = {0};
            sscanf(l + wl, "%lu %lu %lu %lu %lu %lu %lu %lu", v, v + 1, v + 2, v + 3, v + 4, v + 5,
                   v + 6, v + 7);
            r = (v[0] + v[1] + v[2] + v[5] + v[6]) / (double)sysconf(_SC_CLK_TCK);
        }
    if (f) fclose(f);
    return r;
}

static double self_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_utime.tv_usec / 1e6 + u.ru_stime.tv_sec +
           u.ru_stime.tv_usec / 1e6;
}

/* ---------------- modes ---------------- */
static u64 t_start, t_meas, t_end, t_stop;
static procstat ps0, ps1;
static double cb0, cb1, sc0, sc1;
static u64 idle0, idle1;
static int stalled;
static u64 sched_i;
static int nrecv;
static u64 rs = 88172645463325252ull;

static inline u64 rnd(void) {
    rs ^= rs << 13;
    rs ^= rs >> 7;
    rs ^= rs << 17;
    return rs * 2685821657736338717ull;
}

static double exp1(void) { /* -ln(u) without libm: u=m*2^-e, series for ln m */
    u64 r = (rnd() >> 11) | 1;
    double u = r / 9007199254740992.0;
    int e = 0;
    while (u < 0.70710678) {
        u *= 2;
        e++;
    }
    double z = (u - 1) / (u + 1), z2 = z * z;
    double ln = 2 * z * (1 + z2 * (1 / 3.0 + z2 * (1 / 5.0 + z2 * (1 / 7.0 + z2 / 9.0))));
    return e * 0.6931471805599453 - ln;
}

static void begin_meas(void) {
    ps0 = tree(server_pid);
    cb0 = cpu_busy(server_cpu);
    sc0 = self_cpu();
    idle0 = idle_ns;
    t_meas = now_ns();
    measuring = 1;
}

static void end_meas(void) {
    t_end = now_ns();
    measuring = 0;
    ps1 = tree(server_pid);
    cb1 = cpu_busy(server_cpu);
    sc1 = self_cpu();
    idle1 = idle_ns;
}

static void do_dirty(u64 now, int sending) {
    for (int i = 0; i < ndirty; i++) {
        conn *c = dirty[i];
        c->in_dirty = 0;
        if (c->state != S_OPEN) continue;
        if (sending) {
            if (mode == ECHO) {
                while (c->refill) {
                    put_msg(c, now);
                    c->refill--;
                }
            } else if (c->pub >= 0 && rem_) {
                u32 w = window;
                while (c->outstanding < w) {
                    rem_[c->pub][c->next_seq & rem_mask] = (u32)nrecv;
                    put_msg(c, now);
                    c->outstanding++;
                }
            }
        }
        if (c->out_len) flush(c);
    }
    ndirty = 0;
}

static void usage(void) {
    fprintf(stderr, "usage: wsload fanout|echo|conns [options] (listed at the top of wsload.c)\n");
    exit(2);
}

static void parse_options(int argc, char **argv) {
    if (argc < 2) usage();
    if (!strcmp(argv[1], "fanout")) mode = FANOUT;
    else if (!strcmp(argv[1], "echo")) mode = ECHO;
    else if (!strcmp(argv[1], "conns")) mode = CONNS;
    else usage();

    static struct option o[] = {
        {"host", 1, 0, 1},
        {"port", 1, 0, 2},
        {"path", 1, 0, 3},
        {"pub-path", 1, 0, 4},
        {"subs", 1, 0, 'n'},
        {"conns", 1, 0, 'n'},
        {"pubs", 1, 0, 'p'},
        {"size", 1, 0, 's'},
        {"window", 1, 0, 'w'},
        {"time", 1, 0, 't'},
        {"warmup", 1, 0, 5},
        {"rate", 1, 0, 'r'},
        {"self", 1, 0, 6},
        {"server-pid", 1, 0, 7},
        {"server-cpu", 1, 0, 8},
        {"conc", 1, 0, 9},
        {"spin", 1, 0, 10},
        {"label", 1, 0, 11},
        {"binary", 0, 0, 12},
        {"src-ips", 1, 0, 13},
        {"hold-ms", 1, 0, 14},
        {"stall", 1, 0, 15},
        {"pub-recv", 1, 0, 16},
        {"poisson", 1, 0, 17},
        {"json", 0, 0, 18},
        {"deflate", 0, 0, 19},
        {0},
    };
    int k;
    optind = 2;
    while ((k = getopt_long(argc, argv, "n:p:s:w:t:r:", o, 0)) != -1) {
        switch (k) {
        case 1: host = optarg; break;
        case 2: port = atoi(optarg); break;
        case 3: path = optarg; break;
        case 4: pub_path = optarg; break;
        case 'n': nsubs = atoi(optarg); break;
        case 'p': npubs = atoi(optarg); break;
        case 's': size_ = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 't': dur = atof(optarg); break;
        case 5: warm = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 6: self_ = atoi(optarg); break;
        case 7: server_pid = atoi(optarg); break;
        case 8: server_cpu = atoi(optarg); break;
        case 9: conc = atoi(optarg); break;
        case 10: spin = atoi(optarg); break;
        case 11: label = optarg; break;
        case 12: binary = 1; break;
        case 13: src_ips = atoi(optarg); break;
        case 14: hold_ms = atoi(optarg); break;
        case 15: stall_s = atof(optarg); break;
        case 16: pub_recv = atoi(optarg); break;
        case 17: poisson = atoi(optarg); break;
        case 18: json = 1; break;
        case 19: deflate_ = 1; break;
        default: usage();
        }
    }
    if (mode != FANOUT) npubs = 0;
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    if (size_ < HDRLEN) {
        fprintf(stderr, "--size must be >= %d\n", HDRLEN);
        return 2;
    }
#ifndef DEFLATE
    if (deflate_) {
        fprintf(stderr, "--deflate: wsload was compiled without zlib\n");
        return 2;
    }
#endif
    if (deflate_ && size_ > PART) {
        fprintf(stderr, "--size with --deflate must be <= %d\n", PART);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    src_base = 1 + (getpid() % 250);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    nconn = nsubs + npubs;
    P = npubs;
    if ((rlim_t)nconn + 16 > rl.rlim_cur) {
        fprintf(stderr, "need ulimit -n >= %d\n", nconn + 16);
        return 2;
    }
    if (mode == ECHO && nconn > 65535) {
        fprintf(stderr, "echo: at most 65535\n");
        return 2;
    }
    C = calloc(nconn, sizeof *C);
    dirty = calloc(nconn, sizeof *dirty);
    ep = epoll_create1(EPOLL_CLOEXEC);
    make_tmpl();
    u8 *parts = malloc((size_t)nconn * PART);
    for (int i = 0; i < nconn; i++) {
        C[i].part = parts + (size_t)i * PART;
        C[i].idx = i;
        C[i].pub = i >= nsubs ? i - nsubs : -1;
        if (mode == ECHO) C[i].pub = i;
    }
    size_t ne = mode == ECHO ? (size_t)nconn : (size_t)nconn * (P ? P : 1);
    expct = calloc(ne, 4);
    miss = calloc(ne, 4);

    nrecv = pub_recv ? nconn - (self_ ? 0 : 1) : nsubs;
    procstat pre = tree(server_pid);
    double cbp = cpu_busy(server_cpu);
    double ct = connect_all(0, nconn, 120);
    procstat post = tree(server_pid);
    if (mode == CONNS) {
        double cbq = cpu_busy(server_cpu);
        u64 t = now_ns();
        while (now_ns() - t < hold_ms * 1000000ull) {
            pump(50);
            do_dirty(now_ns(), 0);
        }
        procstat fin = tree(server_pid);
        printf(
            "{\"mode\":\"conns\",\"label\":\"%s\",\"conns\":%d,"
            "\"open\":%llu,\"failed\":%llu,\"closed\":%llu,"
            "\"seconds\":%.3f,\"handshakes_per_s\":%.0f,"
            "\"cpu_us_per_handshake\":%.2f,\"core_us_per_handshake\":%.2f,"
            "\"rss_before_kb\":%ld,\"rss_after_kb\":%ld,"
            "\"pss_before_kb\":%ld,\"pss_after_kb\":%ld,\"kib_per_conn\":%.3f,\"procs\":%d,"
            "\"idle_cpu\":%.5f,\"pings\":%llu}\n",
            label, nconn, (unsigned long long)nopen, (unsigned long long)nfailed,
            (unsigned long long)nclosed, ct, nopen / ct,
            nopen ? (post.cpu - pre.cpu) * 1e6 / nopen : 0,
            nopen ? (cbq - cbp) * 1e6 / nopen : 0, pre.rss_kb, fin.rss_kb, pre.pss_kb, fin.pss_kb,
            nopen ? (double)(fin.pss_kb - pre.pss_kb) / nopen : 0, fin.procs,
            (fin.cpu - post.cpu) * 1e9 / (now_ns() - t), (unsigned long long)pings);
        return nopen == (u64)nconn && !nclosed ? 0 : 1;
    }
    if (nopen != (u64)nconn) {
        fprintf(stderr, "only %llu of %d connections opened\n", (unsigned long long)nopen, nconn);
        printf("{\"mode\":\"%s\",\"label\":\"%s\",\"error\":\"open %llu of %d\"}\n", argv[1], label,
               (unsigned long long)nopen, nconn);
        return 1;
    }
    /* let subscriptions settle */
    {
        u64 t = now_ns();
        while (now_ns() - t < 300000000ull) pump(20);
    }

    int open_loop = (mode == FANOUT && rate > 0);
    if (mode == FANOUT && !open_loop) {
        window = window / npubs;
        if (window < 1) window = 1;
        u32 m = 1;
        while (m < (u32)window * 4) m <<= 1;
        rem_mask = m - 1;
        rem_ = calloc(P, sizeof *rem_);
        for (int i = 0; i < P; i++) rem_[i] = calloc(m, 4);
    }
    t_start = now_ns();
    last_deliv_ns = t_start;
    u64 t_m = t_start + (u64)(warm * 1e9), t_e = t_m + (u64)(dur * 1e9);
    double gap = open_loop ? 1e9 / rate : 0;
    u64 next_t = t_start;
    if (mode == ECHO)
        for (int i = 0; i < nconn; i++) {
            C[i].refill = window;
            mark(&C[i]);
        }
    else if (!open_loop)
        for (int i = nsubs; i < nconn; i++) mark(&C[i]);
    do_dirty(now_ns(), 1);
    for (;;) {
        u64 t = now_ns();
        if (!measuring && !t_meas && t >= t_m) {
            begin_meas();
            t = now_ns();
        }
        if (measuring && t >= t_e) {
            end_meas();
            break;
        }
        if (open_loop) {
            int nm = 0;
            while (next_t <= t && nm < 4096) {
                conn *c = &C[nsubs + (poisson ? (rnd() >> 33) % P : sched_i % P)];
                if (c->state == S_OPEN) {
                    put_msg(c, next_t);
                    mark(c);
                }
                sched_i++;
                if (poisson)
                    next_t += (u64)(gap * exp1());
                else
                    next_t = t_start + (u64)(sched_i * gap);
                nm++;
            }
            if (nm) do_dirty(t, 1);
            pump(spin ? 0 : 1);
            if (ndirty) do_dirty(now_ns(), 1);
        } else {
            int n = pump(spin ? 0 : 50);
            if (ndirty) do_dirty(now_ns(), 1);
            if (!n && t > last_deliv_ns && t - last_deliv_ns > (u64)(stall_s * 1e9)) {
                stalled = 1;
                if (measuring)
                    end_meas();
                else {
                    t_meas = t_start;
                    t_end = t;
                }
                break;
            }
        }
        if (nclosed) {
            fprintf(stderr, "%llu connections closed by the server\n", (unsigned long long)nclosed);
            if (measuring)
                end_meas();
            else if (!t_end) {
                if (!t_meas) t_meas = t_start;
                t_end = now_ns();
            }
            break;
        }
    }
    /* drain */
    t_stop = now_ns();
    last_deliv_ns = t_stop;
    u64 want = mode == ECHO ? sent_total : sent_total * (u64)nrecv;
    u64 drain_max = 30 * NS;
    while (total_deliv < want - lost && !nclosed) {
        pump(10);
        do_dirty(now_ns(), 0);
        u64 t = now_ns();
        if (t - last_deliv_ns > NS || t - t_stop > drain_max) break;
    }
    if (mode == FANOUT)
        for (int i = 0; i < (pub_recv ? nconn : nsubs); i++)
            for (int p = 0; p < P; p++) {
                if (!self_ && C[i].pub == p) continue;
                lost += C[nsubs + p].next_seq - expct[i * P + p];
            }
    else
        for (int i = 0; i < nconn; i++) lost += C[i].next_seq - expct[i];
    double el = (t_end - t_meas) / 1e9;
    double scpu = ps1.cpu - ps0.cpu;
    double dps = el > 0 ? meas_deliv / el : 0;
    printf("{\"mode\":\"%s\",\"label\":\"%s\",\"subs\":%d,\"pubs\":%d,\"size\":%d,\"window\":%d,"
           "\"self\":%d,\"rate\":%.0f,\"seconds\":%.3f,"
           "\"%s\":%.0f,\"published_per_s\":%.0f,\"MB_per_s\":%.1f,"
           "\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
           "\"server_cpu_s\":%.2f,\"server_user_s\":%.2f,\"server_sys_s\":%.2f,"
           "\"cpu_us_per_delivery\":%.4f,\"core_busy_s\":%.2f,\"core_us_per_delivery\":%.4f,"
           "\"client_idle\":%.3f,\"client_cpu_s\":%.2f,\"rss_kb\":%ld,\"connect_s\":%.2f,"
           "\"lost\":%llu,\"duplicated\":%llu,\"reordered\":%llu,"
           "\"other\":%llu,\"proto_err\":%llu,\"closed\":%llu,\"stalled\":%d}\n",
           argv[1], label, mode == ECHO ? nconn : nsubs, npubs, size_,
           mode == ECHO ? window : window * (open_loop ? 1 : npubs), self_, rate, el,
           mode == ECHO ? "roundtrips_per_s" : "deliveries_per_s", dps,
           el > 0 ? meas_published / el : 0, dps * size_ / 1e6, hpct(.5) / 1e3, hpct(.99) / 1e3,
           hpct(.999) / 1e3, hmax / 1e3, scpu, ps1.utime - ps0.utime, ps1.stime - ps0.stime,
           meas_deliv ? scpu * 1e6 / meas_deliv : 0, cb1 - cb0,
           meas_deliv ? (cb1 - cb0) * 1e6 / meas_deliv : 0,
           spin ? (idle1 - idle0) / 1e9 / (el > 0 ? el : 1) : -1.0, sc1 - sc0, ps1.rss_kb, ct,
           (unsigned long long)lost, (unsigned long long)dup_, (unsigned long long)reord,
           (unsigned long long)other, (unsigned long long)proto_err, (unsigned long long)nclosed,
           stalled);
    fprintf(stderr, "lost %llu duplicated %llu reordered %llu\n", (unsigned long long)lost,
            (unsigned long long)dup_, (unsigned long long)reord);
    return (lost || dup_ || reord || nclosed || stalled) ? 1 : 0;
}
