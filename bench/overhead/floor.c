/* The floor under every proxy: it copies bytes between a client and a server, and does nothing else.
 *
 *     floor PORT SERVER_PORT...
 *
 * Each connection from a client gets one of its own to the next server in turn, all on loopback.
 * It reads no HTTP, so it can neither choose, nor meter, nor retry: what it takes is what the kernel
 * takes for two reads, two writes and two waits, and no gateway can take less. One thread, epoll.
 * A benchmark's yardstick and nothing to serve with: writes to a stalled reader wait for it.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 1 << 18, MOST_EVENTS = 256, BUFFER = 1 << 18 };

static int peer_of[MOST_DESCRIPTORS];
static char buffer[BUFFER];

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void send_at_once(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(int port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
        perror("floor: can't listen");
        exit(1);
    }
    return fd;
}

static void welcome(int epoll, int listener, int server_port)
{
    struct sockaddr_in address = loopback(server_port);
    int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || server < 0 || client >= MOST_DESCRIPTORS || server >= MOST_DESCRIPTORS ||
        connect(server, (struct sockaddr *)&address, sizeof address)) {
        close(client);
        close(server);
        return;
    }
    send_at_once(client);
    send_at_once(server);
    peer_of[client] = server;
    peer_of[server] = client;
    watch(epoll, client);
    watch(epoll, server);
}

static int copy(int from, int to)
{
    ssize_t size = recv(from, buffer, BUFFER, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) /* an event of a connection that had this number before */
        return 1;
    for (ssize_t sent = 0, now; sent < size; sent += now)
        if ((now = write(to, buffer + sent, size - sent)) <= 0)
            return 0;
    return size > 0;
}

int main(int count, char **ports)
{
    if (count < 3) {
        fprintf(stderr, "usage: floor PORT SERVER_PORT...\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    int listener = listen_on(atoi(ports[1])), epoll = epoll_create1(0), turn = 0;
    struct epoll_event events[MOST_EVENTS];
    watch(epoll, listener);
    for (;;) {
        int ready = epoll_wait(epoll, events, MOST_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                welcome(epoll, listener, atoi(ports[2 + turn++ % (count - 2)]));
            } else if (peer_of[fd] && !copy(fd, peer_of[fd])) {
                int peer = peer_of[fd];
                peer_of[fd] = peer_of[peer] = 0; /* further events of this turn may name them */
                close(fd);
                close(peer);
            }
        }
    }
}
