/* An HTTPS client on whichever OpenSSL it is given: tls_client PORT CONNECTIONS [LIBCRYPTO LIBSSL]
 *
 * With LINKED defined, the library is the one that it is linked with; with PLAIN there is none and it speaks HTTP; else
 * the two files are loaded. Says "ready", waits for a line, then makes connections one after another, two requests on each, and says of every response
 * "TARGET STATUS LOCAL-PORT". Sessions are freed, so that their addresses are used again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUNCTIONS(F) \
  F(void *, SSL_CTX_new, (const void *)) \
  F(void *, SSL_new, (void *)) \
  F(int, SSL_set_fd, (void *, int)) \
  F(int, SSL_connect, (void *)) \
  F(int, SSL_read, (void *, void *, int)) \
  F(int, SSL_write, (void *, const void *, int)) \
  F(int, SSL_shutdown, (void *)) \
  F(void, SSL_free, (void *))

#ifdef PLAIN
static const void *method(char **arguments) { return arguments; }
static void *SSL_CTX_new(const void *method) { return (void *) method; }
static void *SSL_new(void *context) { return malloc(sizeof(int)); }
static void SSL_set_fd(void *ssl, int fd) { *(int *) ssl = fd; }
static int SSL_connect(void *ssl) { return 1; }
static int SSL_read(void *ssl, void *buffer, int size) { return read(*(int *) ssl, buffer, size); }
static int SSL_write(void *ssl, const void *buffer, int size) { return write(*(int *) ssl, buffer, size); }
static void SSL_shutdown(void *ssl) {}
static void SSL_free(void *ssl) { free(ssl); }
#elif defined LINKED
#define DECLARE(type, name, arguments) type name arguments;
FUNCTIONS(DECLARE)
const void *TLS_method(void);
static const void *method(char **arguments) { return TLS_method(); }
/* Those of a C library that is newer than this machine's may be. */
long __isoc23_strtol(const char *a, char **b, int c) { return strtol(a, b, c); }
unsigned long __isoc23_strtoul(const char *a, char **b, int c) { return strtoul(a, b, c); }
long long __isoc23_strtoll(const char *a, char **b, int c) { return strtoll(a, b, c); }
unsigned long long __isoc23_strtoull(const char *a, char **b, int c) { return strtoull(a, b, c); }
int __isoc23_sscanf(const char *s, const char *f, ...) {
  va_list l; va_start(l, f); int r = vsscanf(s, f, l); va_end(l); return r;
}
#else
#define DECLARE(type, name, arguments) static type (*name) arguments;
FUNCTIONS(DECLARE)
static void *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) { fprintf(stderr, "%s\n", dlerror()); exit(2); }
  return library;
}
static const void *method(char **arguments) {
  load(arguments[3]);
  void *library = load(arguments[4]);
#define FIND(type, name, parameters) name = (type (*) parameters) dlsym(library, #name);
  FUNCTIONS(FIND)
  int (*init)(void) = (int (*)(void)) dlsym(library, "SSL_library_init");
  if (init) init();
  const void *(*newer)(void) = (const void *(*)(void)) dlsym(library, "TLS_method");
  const void *(*older)(void) = (const void *(*)(void)) dlsym(library, "SSLv23_method");
  return newer ? newer() : older();
}
#endif

static int request(void *ssl, const char *target, int port) {
  char text[4096];
  int length = sprintf(text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
  if (SSL_write(ssl, text, length) != length) return 0;
  int have = 0, status = 0;
  for (;;) {
    int count = SSL_read(ssl, text + have, sizeof text - 1 - have);
    if (count <= 0) return 0;
    have += count;
    text[have] = 0;
    char *end = strstr(text, "\r\n\r\n"), *size = strcasestr(text, "content-length: ");
    if (end && size && text + have >= end + 4 + atoi(size + 16)) break;
  }
  sscanf(text, "HTTP/1.1 %d", &status);
  printf("%s %d %d\n", target, status, port);
  return 1;
}

int main(int count, char **arguments) {
  struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])) }, own;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const void *chosen = method(arguments);
  void *context = SSL_CTX_new(chosen);
  char line[16], target[64];
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("ready\n");
  if (!fgets(line, sizeof line, stdin)) return 3;
  for (int i = 0; i < atoi(arguments[2]); i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof own;
    if (connect(fd, (struct sockaddr *) &to, sizeof to) || getsockname(fd, (struct sockaddr *) &own, &size)) return 4;
    void *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) return 5;
    for (int j = 0; j < 2; j++) {
      sprintf(target, "/small.txt?id=%d-%d", i, j);
      if (!request(ssl, target, ntohs(own.sin_port))) return 6;
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
  }
  return 0;
}
