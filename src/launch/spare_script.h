/* The interpreter of a spare: spare.py, and how it is started: PYTHON [-u] -c OT_SPARE_MAIN
 * ot_spare_script FD STARTED_US MODULES... */
#ifndef OT_LAUNCH_SPARE_SCRIPT_H
#define OT_LAUNCH_SPARE_SCRIPT_H

#define OT_SPARE_MAIN "import sys; exec(sys.argv.pop(1), {'__name__': 'overtake_spare'})"
extern const char ot_spare_script[];

#endif
