/* Models that are a Python class in `model.py`, run by the user's own interpreter in a process of
 * its own (docs/python-models.md). This plug-in only says which interpreter that is; the rest is
 * worker.py, which lies in it as text. */
#ifndef OT_PLUGINS_PYTHON_H
#define OT_PLUGINS_PYTHON_H

extern const char python_script[], python_script_end[];

#endif
