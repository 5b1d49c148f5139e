/*
 * What a power cut leaves, recorded while a process runs.
 *
 * Preloaded into the server, this takes the place of fsync and fdatasync. The content of a file at each of its syncs, and
 * the entries of a directory at each of its, go into a shadow directory; the disk itself is not asked. After the process is
 * killed, a tree made from the shadow alone is what a disk may hold that kept nothing it was not told to keep.
 *
 *   POWER_CUT_SHADOW   the directory of the shadow, which exists
 *   POWER_CUT_FORGETS  a sync that is answered and not recorded, as if the product's line were missing:
 *                      "file <glob>", "dir <glob>", or "dir <glob> +<name glob>" for those syncs of a directory that would
 *                      record a new entry of such a name, and with "-" for those that would record its removal
 *
 * A file is known by its inode and its time of birth, so that a number that is used again is another file:
 *
 *   file-<inode>-<birth ns>   the content at the last sync
 *   dir-<inode>-<birth ns>    "f <inode>-<birth ns> <name>\0" for each file, "d ..." for each directory
 *   journal                   "file <path>\n" or "dir <path>\n" for each sync that was recorded
 *   forgotten                 the same for each that was not
 *
 * sync_file_range promises nothing and is left alone. Writing with O_SYNC, msync and syncfs would promise something; the
 * server uses none of them, and syncfs and sync end the process, so that it cannot begin to.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, COPY_BYTES = 1 << 16 };

struct listing {
    char *bytes;
    size_t length;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *doing) {
    fprintf(stderr, "power_cut: %s: %s\n", doing, strerror(errno));
    abort();
}

static const char *shadow(void) {
    const char *directory = getenv("POWER_CUT_SHADOW");
    if (!directory) {
        errno = EINVAL;
        fail("POWER_CUT_SHADOW is not set");
    }
    return directory;
}

static void identify(int directory, const char *name, struct statx *found) {
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, found)) fail("looking at a file");
    if (!(found->stx_mask & STATX_BTIME)) {
        errno = ENOTSUP;
        fail("the file system does not keep times of birth");
    }
}

static void write_identity(char *out, size_t size, const struct statx *found) {
    long long born = (long long)found->stx_btime.tv_sec * 1000000000LL + found->stx_btime.tv_nsec;
    snprintf(out, size, "%llu-%lld", (unsigned long long)found->stx_ino, born);
}

static void write_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0) fail("writing the shadow");
        bytes += written;
        length -= (size_t)written;
    }
}

/* A new shadow file. It gets its name when it is whole: the process may be killed at any moment. */
static int begin(char *aside) {
    snprintf(aside, PATH_BYTES, "%s/.aside", shadow());
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) fail("creating a shadow file");
    return fd;
}

static void end(int fd, const char *aside, const char *kind, const struct statx *of) {
    char identity[64], name[PATH_BYTES];
    write_identity(identity, sizeof identity, of);
    snprintf(name, sizeof name, "%s/%s-%s", shadow(), kind, identity);
    close(fd);
    if (rename(aside, name)) fail("naming a shadow file");
}

static void record_file(int fd, const char *path, const struct statx *of) {
    char self[64], aside[PATH_BYTES], buffer[COPY_BYTES];
    (void)path;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC);
    if (from < 0) fail("opening a synced file");
    int to = begin(aside);
    /* What others append during the sync is not part of it. */
    unsigned long long left = of->stx_size;
    while (left) {
        ssize_t got = read(from, buffer, left < COPY_BYTES ? left : COPY_BYTES);
        if (got < 0) fail("reading a synced file");
        if (got == 0) break;
        write_all(to, buffer, (size_t)got);
        left -= (unsigned long long)got;
    }
    close(from);
    end(to, aside, "file", of);
}

static void append(struct listing *list, const char *bytes, size_t length) {
    list->bytes = realloc(list->bytes, list->length + length);
    if (!list->bytes) fail("listing a directory");
    memcpy(list->bytes + list->length, bytes, length);
    list->length += length;
}

static struct listing list_entries(int fd) {
    struct listing list = {0};
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory) fail("listing a directory");
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct statx found;
        char identity[64], line[PATH_BYTES];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        /* What goes away meanwhile is not there. */
        if (faccessat(copy, entry->d_name, F_OK, AT_SYMLINK_NOFOLLOW)) continue;
        if (statx(copy, entry->d_name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found)) continue;
        if (!S_ISREG(found.stx_mode) && !S_ISDIR(found.stx_mode)) continue;
        write_identity(identity, sizeof identity, &found);
        int length = snprintf(line, sizeof line, "%c %s %s", S_ISDIR(found.stx_mode) ? 'd' : 'f', identity, entry->d_name);
        append(&list, line, (size_t)length + 1);
    }
    closedir(directory);
    return list;
}

/* The listing that is recorded of a directory; empty if none is. */
static struct listing recorded_entries(const struct statx *of) {
    struct listing list = {0};
    char identity[64], name[PATH_BYTES], buffer[COPY_BYTES];
    write_identity(identity, sizeof identity, of);
    snprintf(name, sizeof name, "%s/dir-%s", shadow(), identity);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return list;
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) append(&list, buffer, (size_t)got);
    close(fd);
    return list;
}

static int contains(const struct listing *list, const char *line) {
    for (size_t at = 0; at < list->length; at += strlen(list->bytes + at) + 1)
        if (!strcmp(list->bytes + at, line)) return 1;
    return 0;
}

/* Whether an entry of such a name is in a list and not in the other. */
static int lacks(const struct listing *list, const struct listing *other, const char *glob) {
    for (size_t at = 0; at < list->length; at += strlen(list->bytes + at) + 1) {
        const char *line = list->bytes + at, *name = strchr(strchr(line, ' ') + 1, ' ') + 1;
        if (!fnmatch(glob, name, 0) && !contains(other, line)) return 1;
    }
    return 0;
}

/* `now` is what a directory holds. */
static int is_forgotten(const char *kind, const char *path, const struct listing *now, const struct statx *of) {
    char rule[PATH_BYTES];
    const char *forgets = getenv("POWER_CUT_FORGETS");
    if (!forgets || !*forgets) return 0;
    snprintf(rule, sizeof rule, "%s", forgets);
    char *rest = rule, *rule_kind = strsep(&rest, " "), *glob = strsep(&rest, " ");
    if (!glob || strcmp(rule_kind, kind) || fnmatch(glob, path, 0)) return 0;
    if (!rest) return 1;
    struct listing before = recorded_entries(of);
    int changed = *rest == '+' ? lacks(now, &before, rest + 1) : lacks(&before, now, rest + 1);
    free(before.bytes);
    return changed;
}

static void record_directory(const struct listing *now, const struct statx *of) {
    char aside[PATH_BYTES];
    int to = begin(aside);
    write_all(to, now->bytes, now->length);
    end(to, aside, "dir", of);
}

static void note(const char *book, const char *kind, const char *path) {
    char name[PATH_BYTES], line[PATH_BYTES + 8];
    snprintf(name, sizeof name, "%s/%s", shadow(), book);
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) fail("noting a sync");
    write_all(fd, line, (size_t)snprintf(line, sizeof line, "%s %s\n", kind, path));
    close(fd);
}

static void record(int fd, const struct statx *of) {
    char self[64], path[PATH_BYTES];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (length < 0) fail("finding a path");
    path[length] = 0;
    int is_directory = S_ISDIR(of->stx_mode);
    const char *kind = is_directory ? "dir" : "file";
    /* One listing for both: what is made between two is recorded and not seen to be new. */
    struct listing now = {0};
    if (is_directory) now = list_entries(fd);
    int forgotten = is_forgotten(kind, path, &now, of);
    if (!forgotten && is_directory) record_directory(&now, of);
    if (!forgotten && !is_directory) record_file(fd, path, of);
    free(now.bytes);
    note(forgotten ? "forgotten" : "journal", kind, path);
}

int fsync(int fd) {
    struct statx found;
    if (fcntl(fd, F_GETFD) < 0) return -1;
    /* Sizes and entries are those of the moment of the call, or of a later one. */
    pthread_mutex_lock(&one_at_a_time);
    identify(fd, "", &found);
    if (S_ISREG(found.stx_mode) || S_ISDIR(found.stx_mode)) record(fd, &found);
    pthread_mutex_unlock(&one_at_a_time);
    return 0;
}

int fdatasync(int fd) { return fsync(fd); }

int syncfs(int fd) {
    (void)fd;
    errno = ENOTSUP;
    fail("syncfs is not recorded");
    return -1;
}

void sync(void) {
    errno = ENOTSUP;
    fail("sync is not recorded");
}
