/*
 * powercut.c - a journal of the recorder is replayed up to many points; what
 * the disk may hold when the power fails there is judged.
 *
 * usage: powercut [-d] [-f FILE] [-k SAMPLES] [-m BYTES] [-n IMAGES] [-s SEED]
 *            FOLDER
 *   FOLDER    of the recorder; images are made in it, the first that is not
 *             sound stays there as bad.mdb
 *   -d        of a disk that does not heed O_DSYNC
 *   -f FILE   the store after the end: the replay must arrive there
 *   -m BYTES  its map_size
 *   -k N      images kept in FOLDER/sample-1 ...: main.mdb, and told, a line
 *             for each message that was answered last (image.c)
 *
 * Prints a line "word=number ..." and one for each image that is not sound.
 * Exit code 0: all has been judged, whatever came out.
 *
 * See: t/62-power-cut.t, doc/operations.md ("What a power cut leaves").
 */
#include "config.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "t/powercut/cuts.h"
#include "t/powercut/image.h"
#include "t/powercut/record.h"
#include "t/powercut/replay.h"
#include "t/powercut/told.h"

#define PATH_ROOM 4096

struct options {
	const char *folder;
	const char *final;
	size_t map_size;
	size_t images;
	size_t samples;
	uint64_t seed;
	bool has_no_dsync;
};

struct run {
	struct options options;
	struct record record;
	struct told_list told;
	struct replay replay;
	uint64_t chance;
	uint8_t *image;
	size_t verdicts[IMAGE_VERDICT_END];
	size_t places[CUT_PLACE_END];
	size_t unsynced; /* images of a moment when something was */
	size_t promises; /* messages that had to be there, of all images */
	size_t sampled;
	size_t bad;
};

static const char *const verdict_names[IMAGE_VERDICT_END] = {
    [IMAGE_SOUND] = "sound",
    [IMAGE_CLOSED] = "closed",
    [IMAGE_DAMAGED] = "damaged",
    [IMAGE_LOST] = "lost",
};

static const char *const mode_names[REPLAY_MODE_END] = {
    [REPLAY_DROP] = "dropped",
    [REPLAY_KEEP] = "kept",
    [REPLAY_PAGES] = "pages",
    [REPLAY_SECTORS] = "sectors",
};

static void
write_store(const char *folder, const char *name, const void *data, size_t len)
{
	char path[PATH_ROOM];
	FILE *file;

	(void)mkdir(folder, 0700); /* may be there */
	snprintf(path, sizeof(path), "%s/%s-lock", folder, name);
	(void)unlink(path);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (len == REPLAY_NO_FILE) {
		(void)unlink(path);
		return;
	}
	file = fopen(path, "we");
	if (file == NULL || fwrite(data, 1, len, file) != len ||
	    fclose(file) != 0)
		fatal("%s: cannot be written", path);
}

static size_t
count_promises(const struct told_list *told, size_t cut)
{
	size_t count = 0;

	for (size_t i = 0; i < told->count; i++)
		count += told_since(&told->messages[i]) < cut;
	return count;
}

/* @return is this one of them: then path_out is the file for what was told */
static bool
keep_sample(
    struct run *run, size_t number, size_t len, char path_out[PATH_ROOM])
{
	const struct options *options = &run->options;
	char folder[PATH_ROOM];

	if ((number + 1) * options->samples / options->images <= run->sampled)
		return false;
	run->sampled++;
	snprintf(folder, sizeof(folder), "%s/sample-%zu", options->folder,
	    run->sampled);
	write_store(folder, "main.mdb", run->image, len);
	snprintf(path_out, PATH_ROOM, "%s/sample-%zu/told", options->folder,
	    run->sampled);
	return true;
}

static void
run_cut(struct run *run, const struct cut *cut, size_t number)
{
	const struct options *options = &run->options;
	char folder[PATH_ROOM];
	char sample[PATH_ROOM];
	char words[IMAGE_WORDS_MAX];
	struct image image = {
	    folder, options->map_size, &run->told, cut->item, NULL};
	enum image_verdict verdict;
	size_t len;

	replay_advance(&run->replay, cut->item);
	len = replay_image(&run->replay, cut->mode, &run->chance, run->image);
	snprintf(folder, sizeof(folder), "%s/image", options->folder);
	write_store(folder, "main.mdb", run->image, len);
	if (keep_sample(run, number, len, sample))
		image.sample = sample;
	verdict = image_judge(&image, words);
	run->verdicts[verdict]++;
	run->places[cut->place]++;
	run->unsynced += run->replay.piece_count > 0;
	run->promises += count_promises(&run->told, cut->item);
	if (verdict == IMAGE_SOUND)
		return;
	if (++run->bad == 1)
		write_store(options->folder, "bad.mdb", run->image, len);
	printf("image %zu behind entry %zu, %s, %s: %s: %s\n", number,
	    cut->item, cut_place_text(cut->place), mode_names[cut->mode],
	    verdict_names[verdict], words);
}

/* Nothing that changed the file has escaped the recorder. */
static void
check_end(struct run *run)
{
	struct stat st;
	void *map;
	int fd;

	replay_advance(&run->replay, run->record.count);
	if (run->options.final == NULL)
		return;
	fd = open(run->options.final, O_RDONLY | O_CLOEXEC);
	if (fd == -1 || fstat(fd, &st) != 0)
		fatal("%s: cannot be read", run->options.final);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		fatal("%s: cannot be read", run->options.final);
	if (!replay_is(&run->replay, map, (size_t)st.st_size))
		run->replay.strays++;
	munmap(map, (size_t)st.st_size);
	close(fd);
}

static void
print_figures(const struct run *run)
{
	printf("entries=%zu bytes=%zu messages=%zu answers=%zu images=%zu "
	       "promises=%zu unsynced=%zu strays=%u",
	    run->record.count, run->record.map_len, run->told.count,
	    run->told.answers, run->options.images, run->promises,
	    run->unsynced, run->replay.strays);
	for (int i = 0; i < IMAGE_VERDICT_END; i++)
		printf(" %s=%zu", verdict_names[i], run->verdicts[i]);
	for (int i = 0; i < CUT_PLACE_END; i++)
		printf(" %s=%zu", cut_place_text((enum cut_place)i),
		    run->places[i]);
	printf("\n");
}

static void
read_options(int argc, char **argv, struct options *options)
{
	int option;

	*options = (struct options){.map_size = 256U << 20, .images = 100};
	while ((option = getopt(argc, argv, "df:k:m:n:s:")) != -1) {
		switch (option) {
		case 'd':
			options->has_no_dsync = true;
			break;
		case 'f':
			options->final = optarg;
			break;
		case 'k':
			options->samples = strtoul(optarg, NULL, 10);
			break;
		case 'm':
			options->map_size = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options->images = strtoul(optarg, NULL, 10);
			break;
		case 's':
			options->seed = strtoul(optarg, NULL, 10);
			break;
		default:
			fatal("usage: powercut [OPTIONS] FOLDER");
		}
	}
	if (optind + 1 != argc || options->images == 0)
		fatal("usage: powercut [OPTIONS] FOLDER");
	options->folder = argv[optind];
}

int
main(int argc, char **argv)
{
	struct run run = {0};
	char path[PATH_ROOM];
	struct cut *cuts;

	read_options(argc, argv, &run.options);
	snprintf(path, sizeof(path), "%s/%s", run.options.folder, JOURNAL_FILE);
	record_load(&run.record, path);
	told_collect(&run.told, &run.record);
	run.chance = run.options.seed;
	run.image = xcalloc(run.record.store_len, 1);
	replay_init(&run.replay, &run.record);
	run.replay.has_no_dsync = run.options.has_no_dsync;
	cuts = cuts_choose(
	    &run.record, &run.told, run.options.images, &run.chance);
	for (size_t i = 0; i < run.options.images; i++)
		run_cut(&run, &cuts[i], i);
	check_end(&run);
	print_figures(&run);
	free(cuts);
	free(run.image);
	replay_fini(&run.replay);
	told_fini(&run.told);
	record_fini(&run.record);
	return 0;
}
