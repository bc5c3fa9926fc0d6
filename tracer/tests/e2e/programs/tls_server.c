/* An HTTPS server that uses OpenSSL in one of several ways: MODE CERTIFICATE KEY [PORT-OF-A-PLAIN-SERVER].
 * Prints its port, then a line for each request: the target and the client's port. One connection at a time. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
static const char *mode;
static int plain_port;
static jmp_buf out_of_the_call;
static int jumping;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int port_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (name(fd, (struct sockaddr *)&address, &length)) fail("name");
    return ntohs(address.sin_port);
}

static void log_request(const char *request, int fd) {
    char target[256] = "";
    sscanf(request, "%*s %255s", target);
    printf("%s %d\n", target, port_of(fd, getpeername));
    fflush(stdout);
}

/* A BIO over a socket, whose writing may leave the TLS call by a jump. */
static int jumping_write(BIO *bio, const char *data, int length) {
    if (jumping) longjmp(out_of_the_call, 1);
    return (int)send((int)(long)BIO_get_data(bio), data, length, 0);
}

static int plain_read(BIO *bio, char *data, int length) {
    return (int)recv((int)(long)BIO_get_data(bio), data, length, 0);
}

static long control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO *jumping_bio(int fd) {
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "jumping");
        BIO_meth_set_write(method, jumping_write);
        BIO_meth_set_read(method, plain_read);
        BIO_meth_set_ctrl(method, control);
    }
    BIO *bio = BIO_new(method);
    BIO_set_data(bio, (void *)(long)fd);
    BIO_set_init(bio, 1);
    return bio;
}

/* Plain HTTP on another socket, from far below on the stack. */
static int ask_plain_server(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    if (depth > 0) return ask_plain_server(depth - 1) + room[0] - depth;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(plain_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    const char request[] = "GET /small.txt?id=plain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (send(fd, request, sizeof request - 1, 0) < 0) fail("send");
    char response[4096];
    while (recv(fd, response, sizeof response, 0) > 0) {}
    close(fd);
    return 0;
}

static int early(SSL *ssl, int fd) {
    char request[4096];
    size_t length = 0, written = 0;
    int state;
    while ((state = SSL_read_early_data(ssl, request, sizeof request - 1, &length)) == SSL_READ_EARLY_DATA_SUCCESS) {
        request[length] = 0;
        log_request(request, fd);
        if (!SSL_write_early_data(ssl, answer, sizeof answer - 1, &written)) return -1;
    }
    return state == SSL_READ_EARLY_DATA_ERROR ? -1 : 0;
}

static void serve(SSL *ssl, int fd) {
    char request[4096];
    if (!strcmp(mode, "early") && early(ssl, fd)) return;
    if (SSL_accept(ssl) != 1) return;
    for (;;) {
        int length = SSL_read(ssl, request, sizeof request - 1);
        if (length <= 0) return;
        request[length] = 0;
        if (!strcmp(mode, "jump") && strstr(request, "/jump")) {
            if (setjmp(out_of_the_call)) {
                jumping = 0;
                ask_plain_server(4);
                return;
            }
            jumping = 1;
        }
        if (SSL_write(ssl, answer, sizeof answer - 1) <= 0) return;
        log_request(request, fd);
        if (!strcmp(mode, "buffered")) BIO_flush(SSL_get_wbio(ssl));
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    mode = argv[1];
    plain_port = argc > 4 ? atoi(argv[4]) : 0;
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_file(context, argv[2], SSL_FILETYPE_PEM) != 1) return 3;
    if (SSL_CTX_use_PrivateKey_file(context, argv[3], SSL_FILETYPE_PEM) != 1) return 3;
    if (!strcmp(mode, "early")) SSL_CTX_set_max_early_data(context, 16384);
    if (!strcmp(mode, "renegotiate")) {
        SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
        SSL_CTX_set_options(context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    }
    if (!strcmp(mode, "buffered")) SSL_CTX_set_read_ahead(context, 1);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) fail("listen");
    printf("%d\n", port_of(listener, getsockname));
    fflush(stdout);
    SSL *reused = SSL_new(context);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) fail("accept");
        int clears = !strcmp(mode, "clear");
        SSL *ssl = clears ? reused : SSL_new(context);
        if (clears) SSL_clear(ssl);
        if (!strcmp(mode, "jump")) {
            BIO *bio = jumping_bio(fd);
            SSL_set_bio(ssl, bio, bio);
        } else if (!strcmp(mode, "two")) {
            SSL_set_rfd(ssl, fd);
            SSL_set_wfd(ssl, fd);
        } else {
            SSL_set_fd(ssl, fd);
        }
        if (!strcmp(mode, "buffered")) {
            BIO *wire = SSL_get_wbio(ssl);
            BIO_up_ref(wire);
            SSL_set0_wbio(ssl, BIO_push(BIO_new(BIO_f_buffer()), wire));
        }
        if (!strcmp(mode, "swapped")) {
            /* The session is given the first of two connections, and then another BIO on the second one. */
            int first = fd;
            fd = accept(listener, NULL, NULL);
            BIO *bio = jumping_bio(fd);
            SSL_set_bio(ssl, bio, bio);
            serve(ssl, fd);
            close(first);
        } else {
            serve(ssl, fd);
        }
        if (strcmp(mode, "jump")) SSL_shutdown(ssl);
        if (!clears && strcmp(mode, "jump")) SSL_free(ssl);
        close(fd);
    }
}
