#include "launch/spare_script.h"

__asm__(".section .rodata\n"
        ".hidden ot_spare_script\n"
        ".global ot_spare_script\n"
        "ot_spare_script:\n"
        ".incbin \"src/launch/spare.py\"\n"
        ".byte 0\n"
        ".previous\n");
