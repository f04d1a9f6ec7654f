# A private sshd and, as soon as it listens, ssh -D to it, of which it is a child then. Both end with their process group.
{sshd} -D -e -f {folder}/sshd_config &
until [ -s {folder}/pid ]; do kill -0 $! 2> /dev/null || exit; sleep 0.02; done
exec {ssh} -F {folder}/ssh_config -N -D 127.0.0.1:{listens} private
