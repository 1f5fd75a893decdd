/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two ends of `make bench-ways`, one thread each. Both end when their standard input does.
 *
 *   ways serve PORT...   answers on each PORT, on all addresses: TCP, where it reads a byte, answers 64 and closes first; UDP, which comes
 *                        back as it is. On PORT + 1: TCP that is kept, and comes back as it is. Says "ready".
 *   ways ask             reads lines "short|kept|udp ADDRESS PORT MILLISECONDS PARALLEL" and does so: short connections one after another;
 *                        a byte and its answer on kept ones; datagrams of 32 bytes, each sent with its address. For each line it says
 *                        "REQUESTS NANOSECONDS P50 P99 ERRORS", percentiles in nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS	     256
#define DESCRIPTORS  4096
#define SAMPLES	     (1 << 20)
#define ANSWER_BYTES 64
#define DATAGRAM     32
/* A line asks for no more than this. */
#define MOST_MS	      10000
#define MOST_PARALLEL 64
/* What is not answered by then counts as an error, and is asked anew. */
#define PATIENCE_NS 200000000ull

enum role { UNUSED, INPUT, LISTEN_SHORT, LISTEN_KEPT, SERVE_SHORT, ECHO_KEPT, ECHO_UDP };
enum kind { SHORT, KEPT, UDP };

static int epoll_fd;
static char bytes[2048];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void watch(int fd, uint32_t events, int operation)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (epoll_ctl(epoll_fd, operation, fd, &event))
		fail("epoll_ctl");
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* The server. */

static enum role roles[DESCRIPTORS];

static void serve(int fd, enum role role)
{
	if (fd >= DESCRIPTORS) {
		close(fd);
		return;
	}
	roles[fd] = role;
	watch(fd, EPOLLIN, EPOLL_CTL_ADD);
}

static void listen_on(int type, int port, enum role role)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int one = 1, zero = 0, fd = socket(AF_INET6, type | SOCK_NONBLOCK, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("bind");
	if (type == SOCK_STREAM && listen(fd, DESCRIPTORS))
		fail("listen");
	serve(fd, role);
}

static void accept_all(int listener, enum role role)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		no_delay(fd);
		serve(fd, role);
	}
}

static void echo_datagrams(int fd)
{
	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);
		ssize_t got = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&peer, &length);

		if (got < 0)
			return;
		/* One that cannot be sent is lost, as the asker sees. */
		(void)!sendto(fd, bytes, (size_t)got, 0, (struct sockaddr *)&peer, length);
	}
}

static void answer(int fd, bool kept)
{
	ssize_t got = read(fd, bytes, sizeof(bytes));

	if (got < 0 && errno == EAGAIN)
		return;
	if (got > 0 && write(fd, bytes, kept ? (size_t)got : ANSWER_BYTES) > 0 && kept)
		return;
	close(fd);
}

static void serve_event(int fd)
{
	switch (roles[fd]) {
	case INPUT:
		if (read(fd, bytes, sizeof(bytes)) <= 0)
			exit(0);
		return;
	case LISTEN_SHORT:
		return accept_all(fd, SERVE_SHORT);
	case LISTEN_KEPT:
		return accept_all(fd, ECHO_KEPT);
	case ECHO_UDP:
		return echo_datagrams(fd);
	default:
		return answer(fd, roles[fd] == ECHO_KEPT);
	}
}

static void run_server(int count, char **ports)
{
	struct epoll_event events[EVENTS];

	for (int i = 0; i < count; i++) {
		int port = atoi(ports[i]);

		listen_on(SOCK_STREAM, port, LISTEN_SHORT);
		listen_on(SOCK_DGRAM, port, ECHO_UDP);
		listen_on(SOCK_STREAM, port + 1, LISTEN_KEPT);
	}
	serve(STDIN_FILENO, INPUT);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		for (int i = 0; i < n; i++)
			serve_event(events[i].data.fd);
	}
}

/* The asker. */

struct request {
	bool open;
	bool answered; /* a short connection: it may end now */
	bool failed;   /* and rests until its patience ends, so that nothing is refused in a circle */
	uint64_t begun;
};

struct run {
	enum kind kind;
	struct sockaddr_storage to;
	socklen_t to_length;
	uint64_t requests;
	uint64_t errors;
};

static struct request asked[DESCRIPTORS];
static uint32_t samples[SAMPLES];

static void stop(int fd)
{
	asked[fd].open = false;
	close(fd);
}

static void failed(struct run *r, int fd)
{
	r->errors++;
	asked[fd].failed = true;
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void send_datagram(struct run *r, int fd)
{
	asked[fd].begun = now_ns();
	if (sendto(fd, bytes, DATAGRAM, 0, (struct sockaddr *)&r->to, r->to_length) < 0)
		failed(r, fd);
}

static void write_byte(struct run *r, int fd)
{
	if (write(fd, bytes, 1) != 1)
		failed(r, fd);
}

static void start(struct run *r)
{
	int fd = socket(r->to.ss_family, (r->kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);

	if (fd < 0 || fd >= DESCRIPTORS)
		fail("socket");
	asked[fd] = (struct request){ .open = true, .begun = now_ns() };
	if (r->kind == UDP) {
		watch(fd, EPOLLIN, EPOLL_CTL_ADD);
		send_datagram(r, fd);
		return;
	}
	no_delay(fd);
	if (connect(fd, (struct sockaddr *)&r->to, r->to_length) && errno != EINPROGRESS)
		failed(r, fd);
	else
		watch(fd, EPOLLOUT, EPOLL_CTL_ADD);
}

static void done(struct run *r, int fd)
{
	uint64_t took = now_ns() - asked[fd].begun;

	if (r->requests < SAMPLES)
		samples[r->requests] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
	r->requests++;
}

static void ask_event(struct run *r, int fd, uint32_t events)
{
	ssize_t got;

	if (events & EPOLLOUT) {
		watch(fd, EPOLLIN, EPOLL_CTL_MOD);
		write_byte(r, fd);
		return;
	}
	got = recv(fd, bytes, sizeof(bytes), 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got < 0 || (got == 0 && !(r->kind == SHORT && asked[fd].answered))) {
		failed(r, fd);
		return;
	}
	if (r->kind == SHORT && got > 0) {
		asked[fd].answered = true;
		return;
	}
	done(r, fd);
	if (r->kind == SHORT) {
		stop(fd);
		start(r);
	} else if (r->kind == UDP) {
		send_datagram(r, fd);
	} else {
		asked[fd].begun = now_ns();
		write_byte(r, fd);
	}
}

/* Asks anew what got no answer. */
static void lose_patience(struct run *r, uint64_t now)
{
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		if (!asked[fd].open || now < asked[fd].begun + PATIENCE_NS)
			continue;
		if (!asked[fd].failed)
			r->errors++;
		stop(fd);
		start(r);
	}
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void ask(struct run *r, uint64_t milliseconds, int parallel)
{
	struct epoll_event events[EVENTS];
	uint64_t begin = now_ns(), end = begin + milliseconds * 1000000ull, next_look = begin + PATIENCE_NS / 4, now, count;

	for (int i = 0; i < parallel; i++)
		start(r);
	while ((now = now_ns()) < end) {
		int n = epoll_wait(epoll_fd, events, EVENTS, 10);

		for (int i = 0; i < n; i++)
			ask_event(r, events[i].data.fd, events[i].events);
		if (now < next_look)
			continue;
		lose_patience(r, now);
		next_look = now + PATIENCE_NS / 4;
	}
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		if (asked[fd].open)
			stop(fd);
	count = r->requests < SAMPLES ? r->requests : SAMPLES;
	qsort(samples, count, sizeof(*samples), by_size);
	printf("%lu %lu %u %u %lu\n", r->requests, now - begin, count ? samples[count / 2] : 0,
	       count ? samples[count * 99 / 100] : 0, r->errors);
	fflush(stdout);
}

static bool resolve(struct run *r, const char *address, const char *port)
{
	struct addrinfo *found, hint = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };

	if (getaddrinfo(address, port, &hint, &found))
		return false;
	memcpy(&r->to, found->ai_addr, found->ai_addrlen);
	r->to_length = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

static void run_asker(void)
{
	char line[256], kind[8], address[64], port[8];
	unsigned long milliseconds;
	int parallel;

	while (fgets(line, sizeof(line), stdin)) {
		struct run r = { 0 };

		if (sscanf(line, "%7s %63s %7s %lu %d", kind, address, port, &milliseconds, &parallel) != 5 ||
		    milliseconds > MOST_MS || parallel > MOST_PARALLEL || !resolve(&r, address, port)) {
			fprintf(stderr, "ways: what is asked makes no sense: %s", line);
			exit(2);
		}
		r.kind = !strcmp(kind, "udp") ? UDP : !strcmp(kind, "kept") ? KEPT : SHORT;
		ask(&r, milliseconds, parallel);
	}
}

int main(int count, char **words)
{
	/* Under a low limit sockets run out; descriptors above the tables are refused. */
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ DESCRIPTORS, DESCRIPTORS });
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fail("epoll_create1");
	if (count > 2 && !strcmp(words[1], "serve"))
		run_server(count - 2, words + 2);
	else if (count == 2 && !strcmp(words[1], "ask"))
		run_asker();
	else
		return 2;
	return 0;
}
