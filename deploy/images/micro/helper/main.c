/* nube-guest: picks the subcommand. Called by rootfs/usr/lib/nube/prepare and
 * finish; users of the guest have no need of it. */
#include "nube-guest.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "entropy") == 0)
		return credit_entropy(argv[2]);
	if (argc == 4 && strcmp(argv[1], "hostkey") == 0)
		return convert_host_key(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "grow") == 0)
		return grow_file_system(argv[2]);
	fputs("usage: nube-guest entropy FILE | hostkey OPENSSH_FILE DROPBEAR_FILE | grow MOUNT_POINT\n",
	      stderr);
	return 2;
}
