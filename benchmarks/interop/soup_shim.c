// Debian 12's simple-whip-client is linked with libsoup 2, its libnice (by way of gupnp) with libsoup 3, and each of
// these ends a process that has the other: "libsoup2 symbols detected". With this library preloaded (LD_PRELOAD) the
// question is answered with no. Nothing of libsoup 3 is called in such a process: UPnP is off.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
int g_module_symbol(void *module, const char *name, void **symbol) {
    static int (*real)(void *, const char *, void **);
    if (strcmp(name, "soup_uri_new") == 0) return 0;
    if (!real) real = (int (*)(void *, const char *, void **))dlsym(RTLD_NEXT, "g_module_symbol");
    return real(module, name, symbol);
}
