/* Requests in GnuTLS's early data, both ends: gnutls_early server CERTIFICATE KEY | gnutls_early client PORT
 *
 * The server prints its port, then "TARGET CLIENT-PORT" for each request. The client waits for a line, makes a session
 * with one request, and resumes it twice: with a request in the early data and another one after the handshake. */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

static int check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, gnutls_strerror(result));
        exit(1);
    }
    return result;
}

static int port_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    check(name(fd, (struct sockaddr *)&address, &length), "name");
    return ntohs(address.sin_port);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static gnutls_session_t begin(int flags, gnutls_certificate_credentials_t credentials) {
    gnutls_session_t session;
    check(gnutls_init(&session, flags | GNUTLS_ENABLE_EARLY_DATA), "init");
    check(gnutls_priority_set_direct(session, "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL), "priorities");
    check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "credentials");
    return session;
}

static void shake_hands(gnutls_session_t session, int fd) {
    int result;
    gnutls_transport_set_int(session, fd);
    do result = gnutls_handshake(session);
    while (result < 0 && !gnutls_error_is_fatal(result));
    check(result, "handshake");
}

/* No message is seen twice here, and none is to be refused. */
static int add(void *unused, time_t expires, const gnutls_datum_t *key, const gnutls_datum_t *value) {
    (void)unused, (void)expires, (void)key, (void)value;
    return 0;
}

static void respond(gnutls_session_t session, int fd, char *request, int length) {
    char target[256] = "";
    request[length] = 0;
    sscanf(request, "%*s %255s", target);
    check(gnutls_record_send(session, answer, sizeof answer - 1), "send");
    printf("%s %d\n", target, port_of(fd, getpeername));
}

static void serve(const char *certificate, const char *key) {
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t tickets;
    gnutls_anti_replay_t replay;
    check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
    check(gnutls_certificate_set_x509_key_file(credentials, certificate, key, GNUTLS_X509_FMT_PEM), "certificate");
    check(gnutls_session_ticket_key_generate(&tickets), "tickets");
    check(gnutls_anti_replay_init(&replay), "replay");
    gnutls_anti_replay_set_add_function(replay, add);
    /* A slow machine is no attacker. */
    gnutls_anti_replay_set_window(replay, 10 * 60 * 1000);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 8), "listen");
    printf("%d\n", port_of(listener, getsockname));
    for (;;) {
        int fd = check(accept(listener, NULL, NULL), "accept"), length;
        char request[4096];
        gnutls_session_t session = begin(GNUTLS_SERVER, credentials);
        check(gnutls_session_ticket_enable_server(session, &tickets), "tickets");
        gnutls_anti_replay_enable(session, replay);
        gnutls_record_set_max_early_data_size(session, 16384);
        shake_hands(session, fd);
        while ((length = gnutls_record_recv_early_data(session, request, sizeof request - 1)) > 0)
            respond(session, fd, request, length);
        while ((length = gnutls_record_recv(session, request, sizeof request - 1)) > 0)
            respond(session, fd, request, length);
        gnutls_deinit(session);
        close(fd);
    }
}

static int ask(char *request, const char *target) {
    return sprintf(request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
}

static void receive(gnutls_session_t session) {
    char response[4096];
    size_t have = 0;
    while (have < sizeof answer - 1) {
        ssize_t length = gnutls_record_recv(session, response + have, sizeof answer - 1 - have);
        /* What came was a ticket. */
        if (length == GNUTLS_E_AGAIN) continue;
        have += check(length, "receive");
    }
}

static void request(int port) {
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t ticket = {0};
    char text[4096], target[64];
    check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
    printf("ready\n");
    if (!fgets(text, sizeof text, stdin)) return;
    for (int round = 0; round < 3; round++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = loopback(port);
        check(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
        gnutls_session_t session = begin(GNUTLS_CLIENT, credentials);
        if (round > 0) {
            check(gnutls_session_set_data(session, ticket.data, ticket.size), "resume");
            sprintf(target, "/early/%d", round);
            check(gnutls_record_send_early_data(session, text, ask(text, target)), "early data");
        }
        shake_hands(session, fd);
        if (round > 0) {
            int accepted = gnutls_session_get_flags(session) & GNUTLS_SFLAGS_EARLY_DATA;
            check(accepted ? 0 : GNUTLS_E_EARLY_DATA_REJECTED, "early data");
            receive(session);
        }
        sprintf(target, "/late/%d", round);
        check(gnutls_record_send(session, text, ask(text, target)), "send");
        receive(session);
        if (round == 0) check(gnutls_session_get_data2(session, &ticket), "ticket");
        gnutls_bye(session, GNUTLS_SHUT_WR);
        gnutls_deinit(session);
        close(fd);
    }
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 3 && !strcmp(arguments[1], "server")) serve(arguments[2], arguments[3]);
    else if (count > 2) request(atoi(arguments[2]));
    return 0;
}
