/* The guest's one small program for what a shell cannot do: one file per
 * subcommand, each returns an exit status and prints its own error. */
#ifndef NUBE_GUEST_H
#define NUBE_GUEST_H

int credit_entropy(const char *seed_path);
int convert_host_key(const char *openssh_path, const char *dropbear_path);
int grow_file_system(const char *mount_point);

#endif
