/*
 * compare.h - parleyload --compare OLD NEW.
 */
#ifndef LOAD_COMPARE_H
#define LOAD_COMPARE_H

/**
 * Print a table of ratios of two result files.
 *
 * @param argv  OLD NEW [--json], what follows --compare
 * @return      exit status: 0, 1 (a file cannot be used; said on standard
 *              error), 2 (usage)
 */
int compare_main(int argc, char **argv);

#endif
