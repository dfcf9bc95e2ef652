/* Runs a fuzz target over files: its kept corpus as an ordinary test. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (f == NULL) {
            printf("not ok %d - %s cannot be read\n", i, argv[i]);
            return 1;
        }
        static uint8_t buf[4u << 20];
        size_t n = fread(buf, 1, sizeof buf, f);
        fclose(f);
        /* A copy of the exact size, so that a sanitizer sees a read past its end. */
        uint8_t *copy = malloc(n ? n : 1);
        if (copy == NULL) {
            return 1;
        }
        for (size_t k = 0; k < n; k++) {
            copy[k] = buf[k];
        }
        (void)LLVMFuzzerTestOneInput(copy, n);
        free(copy);
        printf("ok %d - %s\n", i, argv[i]);
    }
    printf("1..%d\n", argc - 1);
    return argc < 2;
}
