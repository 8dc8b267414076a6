//go:build real

package tool

import (
	"os"
	"path/filepath"
	"testing"
)

// dockerd runs in a mount namespace of its own, so that none of its mounts
// outlives it. There $1 is /etc/docker, and what it writes to /opt is lost.
const dockerd = `mount --bind "$1" /etc/docker && mount -t tmpfs tmpfs /opt && shift && exec dockerd "$@"`

// Docker starts docker's daemon and returns the client, which talks to it. The
// daemon keeps everything in Dir; what it finds in /etc/docker is Dir/etc. It
// has no network but loopback, and env beside its environment.
func Docker(t *testing.T, env ...string) *Tool {
	t.Helper()
	c, daemon := Find(t, "docker"), Find(t, "unshare")
	if _, err := locate(Root(t), "dockerd"); err != nil {
		t.Fatal(err)
	}
	daemon.Dir, daemon.Env = c.Dir, append(append(daemon.Env, "TMPDIR="+c.Dir), env...)
	etc := filepath.Join(c.Dir, "etc")
	if err := os.Mkdir(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := "unix://" + filepath.Join(c.Dir, "docker.sock")
	c.Env = append(c.Env, "DOCKER_HOST="+socket, "DOCKER_CONTEXT=")
	s := daemon.Start("--mount", "--propagation", "private", "sh", "-c", dockerd, "sh", etc,
		"--host", socket, "--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip-forward=false",
		"--data-root", filepath.Join(c.Dir, "data"), "--exec-root", filepath.Join(c.Dir, "exec"), "--pidfile", filepath.Join(c.Dir, "pid"))
	c.await(s, "version")
	return c
}
