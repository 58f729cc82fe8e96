/* Credits the host's random bytes to the kernel and makes it reseed at once.
 *
 * Writing to /dev/urandom only mixes: the kernel would not count the bytes, and
 * would hand out numbers from its old state until the next periodic reseed. Two
 * guests restored from one memory image would then draw the same numbers. */
#include "nube-guest.h"

#include <fcntl.h>
#include <linux/random.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SEED_BYTES_MIN 32
#define SEED_BYTES_MAX 512

static struct {
	struct rand_pool_info info;
	unsigned char bytes[SEED_BYTES_MAX];
} pool;

static ssize_t read_whole(int fd, unsigned char *buffer, size_t capacity)
{
	size_t length = 0;

	while (length < capacity) {
		ssize_t n = read(fd, buffer + length, capacity - length);
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		length += (size_t)n;
	}
	return (ssize_t)length;
}

int credit_entropy(const char *seed_path)
{
	int random_fd, status;
	ssize_t length;
	int seed_fd = open(seed_path, O_RDONLY | O_CLOEXEC);

	if (seed_fd < 0) {
		perror(seed_path);
		return 1;
	}
	length = read_whole(seed_fd, pool.bytes, sizeof(pool.bytes));
	close(seed_fd);
	if (length < SEED_BYTES_MIN) {
		fprintf(stderr, "%s: fewer than %d bytes\n", seed_path, SEED_BYTES_MIN);
		return 1;
	}
	pool.info.entropy_count = (int)length * 8;
	pool.info.buf_size = (int)length;
	random_fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (random_fd < 0) {
		perror("/dev/urandom");
		return 1;
	}
	/* The kernel reads buf_size bytes behind the header: `bytes` follows it
	 * without a gap, both being of 4-byte alignment or less. */
	status = ioctl(random_fd, RNDADDENTROPY, &pool) != 0 ||
		 ioctl(random_fd, RNDRESEEDCRNG) != 0;
	if (status)
		perror("nube-guest: credit entropy");
	explicit_bzero(&pool, sizeof(pool));
	close(random_fd);
	return status;
}
