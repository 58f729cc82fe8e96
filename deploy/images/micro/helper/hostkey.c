/* Turns an OpenSSH ed25519 private key into dropbear's form.
 *
 * dropbearconvert does the same, but loading its six libraries takes ten
 * times as long under TCG. OpenSSH's form is described in its
 * PROTOCOL.key; dropbear's is two SSH strings: the name, and seed || public key. */
#include "nube-guest.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEY_BYTES 32
#define FILE_BYTES_MAX 8192

static const char key_name[] = "ssh-ed25519";

struct cursor {
	const unsigned char *at;
	size_t left;
};

static int take(struct cursor *c, const void **bytes, size_t length)
{
	if (c->left < length)
		return -1;
	*bytes = c->at;
	c->at += length;
	c->left -= length;
	return 0;
}

static int take_u32(struct cursor *c, uint32_t *value)
{
	const void *p;
	const unsigned char *b;

	if (take(c, &p, 4) != 0)
		return -1;
	b = p;
	*value = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
	return 0;
}

static int take_string(struct cursor *c, struct cursor *string)
{
	uint32_t length;
	const void *p;

	if (take_u32(c, &length) != 0 || take(c, &p, length) != 0)
		return -1;
	string->at = p;
	string->left = length;
	return 0;
}

static int equals(const struct cursor *string, const char *text)
{
	return string->left == strlen(text) && memcmp(string->at, text, string->left) == 0;
}

static int base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes the text between the armour lines in place (the output is shorter than
 * its input); returns the length. */
static size_t decode_armour(char *text, struct cursor *blob)
{
	static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----";
	unsigned char *out;
	uint32_t bits = 0;
	int bit_count = 0;
	char *in = strstr(text, begin);

	if (in == NULL)
		return 0;
	in += sizeof(begin) - 1;
	out = (unsigned char *)text;
	blob->at = out;
	for (; *in != '\0' && *in != '-' && *in != '='; in++) {
		int digit = base64_digit((unsigned char)*in);
		if (digit < 0)
			continue;
		bits = bits << 6 | (uint32_t)digit;
		bit_count += 6;
		if (bit_count >= 8) {
			bit_count -= 8;
			*out++ = (unsigned char)(bits >> bit_count);
		}
	}
	blob->left = (size_t)(out - blob->at);
	return blob->left;
}

/* Finds the 64 bytes seed || public key. Refuses anything encrypted, holding
 * several keys or of another kind. The magic's terminating NUL is part of it. */
static const unsigned char *find_key(struct cursor blob)
{
	struct cursor cipher, kdf, options, public_blob, private_blob, name, public_key, pair;
	uint32_t count, check_a, check_b;
	const void *magic;

	if (take(&blob, &magic, 15) != 0 || memcmp(magic, "openssh-key-v1", 15) != 0)
		return NULL;
	if (take_string(&blob, &cipher) != 0 || !equals(&cipher, "none") ||
	    take_string(&blob, &kdf) != 0 || take_string(&blob, &options) != 0 ||
	    take_u32(&blob, &count) != 0 || count != 1 ||
	    take_string(&blob, &public_blob) != 0 || take_string(&blob, &private_blob) != 0)
		return NULL;
	if (take_u32(&private_blob, &check_a) != 0 || take_u32(&private_blob, &check_b) != 0 ||
	    check_a != check_b || take_string(&private_blob, &name) != 0 ||
	    !equals(&name, key_name) || take_string(&private_blob, &public_key) != 0 ||
	    public_key.left != KEY_BYTES || take_string(&private_blob, &pair) != 0 ||
	    pair.left != 2 * KEY_BYTES ||
	    memcmp(pair.at + KEY_BYTES, public_key.at, KEY_BYTES) != 0)
		return NULL;
	return pair.at;
}

static int write_key(const char *path, const unsigned char *pair)
{
	unsigned char out[4 + sizeof(key_name) - 1 + 4 + 2 * KEY_BYTES] = { 0 };
	size_t name_length = sizeof(key_name) - 1;
	int status, fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	out[3] = (unsigned char)name_length;
	memcpy(out + 4, key_name, name_length);
	out[4 + name_length + 3] = 2 * KEY_BYTES;
	memcpy(out + 4 + name_length + 4, pair, 2 * KEY_BYTES);
	status = write(fd, out, sizeof(out)) == (ssize_t)sizeof(out) ? 0 : -1;
	explicit_bzero(out, sizeof(out));
	return close(fd) == 0 ? status : -1;
}

int convert_host_key(const char *openssh_path, const char *dropbear_path)
{
	static char text[FILE_BYTES_MAX + 1];
	struct cursor blob;
	const unsigned char *pair;
	ssize_t length;
	int status = 1, fd = open(openssh_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		perror(openssh_path);
		return 1;
	}
	length = read(fd, text, FILE_BYTES_MAX);
	close(fd);
	pair = length > 0 && decode_armour(text, &blob) > 0 ? find_key(blob) : NULL;
	if (pair == NULL)
		fprintf(stderr, "%s: not an unencrypted OpenSSH ed25519 key\n", openssh_path);
	else if (write_key(dropbear_path, pair) != 0)
		perror(dropbear_path);
	else
		status = 0;
	explicit_bzero(text, sizeof(text));
	return status;
}
