/* The page's files, as tools/embed.py puts them into the binary.
 *
 * Threads: any; constant. */
#ifndef OT_API_PAGE_H
#define OT_API_PAGE_H

#include "net/http_server.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct api_asset {
    const char *path; /* "/" is the page itself */
    const char *type;
    const char *digest; /* SHA-256 of `plain`, hex */
    const unsigned char *plain, *gzip;
    size_t n_plain, n_gzip;
} api_asset;

extern const api_asset api_assets[]; /* by path, as strcmp orders them */
extern const size_t api_assets_n;

/* Answers a request for one of the files and is true; false: the path is none of them, and nothing
 * was done. Needs no token: there is nothing in them that the sources do not show. */
bool api_page_answer(ot_http_req *req);

#endif
