/* Opening a library that talks on stderr while it is loaded.
 *
 * TensorFlow 2.21 prints two lines from its static initialisers, before any setting of its log can
 * take effect. stderr is pointed at memory for the time of the dlopen (0.3 s); afterwards
 * everything in it is written to the real stderr, those two lines excepted, so that nothing of
 * other threads is lost. A process forked meanwhile would keep the memory as its stderr; who forks
 * (the launcher) doesn't load models. Threads: one caller at a time. */
#ifndef OT_PLUGINS_TENSORFLOW_TF_QUIET_H
#define OT_PLUGINS_TENSORFLOW_TF_QUIET_H

/* dlopen(path, RTLD_LAZY | RTLD_LOCAL). */
void *tf_quiet_dlopen(const char *path);

#endif
