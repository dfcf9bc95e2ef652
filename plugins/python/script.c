/* worker.py as it is, in the plug-in: where that lies its program lies. */
#include "python.h"

__asm__(".section .rodata\n"
        ".hidden python_script\n"
        ".hidden python_script_end\n"
        ".global python_script\n"
        ".global python_script_end\n"
        "python_script:\n"
        ".incbin \"plugins/python/worker.py\"\n"
        "python_script_end:\n"
        ".byte 0\n"
        ".previous\n");
