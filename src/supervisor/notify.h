/*
 * notify.h - a word to the service manager that started us: sd_notify(3), as
 * far as it is needed.
 */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

/**
 * One datagram to $NOTIFY_SOCKET; nothing where there is none. A lost one is
 * logged: the manager will say that the start took too long.
 *
 * @param state  "READY=1", "STOPPING=1"
 */
void notify_manager(const char *state);

#endif
