/*
 * image.h - one image of a store after a power cut, judged.
 */
#ifndef T_POWERCUT_IMAGE_H
#define T_POWERCUT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "t/powercut/told.h"

enum image_verdict {
	IMAGE_SOUND,
	IMAGE_CLOSED,  /* the library does not open it */
	IMAGE_DAMAGED, /* rows do not fit together, or reading them crashes */
	IMAGE_LOST,    /* something that was told is not there */
	IMAGE_VERDICT_END
};

#define IMAGE_WORDS_MAX 200

struct image {
	const char *folder; /* main.mdb lies in it */
	size_t map_size;
	const struct told_list *told;
	size_t cut;         /* item: what was told before counts */
	const char *sample; /* file for what was told last, or NULL */
};

/**
 * In a process of its own: liblmdb trusts what it finds.
 *
 * @param words_out  what is wrong
 */
enum image_verdict image_judge(
    const struct image *image, char words_out[IMAGE_WORDS_MAX]);

#endif
