//go:build real

package tool

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Containerd starts containerd and returns ctr, which talks to it. containerd
// keeps everything in Dir: what it pulls is in Dir/content, laid out as the
// blobs of an image layout are. It runs no containers, nor does it need to.
// Kubernetes finds how to reach registries in Dir/certs.d.
func Containerd(t *testing.T) *Tool {
	t.Helper()
	daemon, c := Find(t, "containerd"), Find(t, "ctr")
	daemon.Dir = c.Dir
	config := filepath.Join(c.Dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, c.Dir, runtime.GOARCH), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("root/io.containerd.content.v1.content", filepath.Join(c.Dir, "content")); err != nil {
		t.Fatal(err)
	}
	c.Args = []string{"--address", filepath.Join(c.Dir, "containerd.sock")}
	c.Env = append(c.Env, "CONTAINERD_SNAPSHOTTER=native") // which needs nothing of the kernel
	c.await(daemon.Start("--config", config), "version")
	return c
}

const containerdConfig = `version = 3
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
	address = "%[1]s/containerd.sock"
[ttrpc]
	address = "%[1]s/containerd.ttrpc.sock"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
	platform = "linux/%[2]s"
	snapshotter = "native"
	differ = "walking"
[plugins."io.containerd.cri.v1.images"]
	snapshotter = "native"
[plugins."io.containerd.cri.v1.images".registry]
	config_path = "%[1]s/certs.d"
[plugins."io.containerd.cri.v1.runtime".cni]
	bin_dirs = ["%[1]s/cni"]
	conf_dir = "%[1]s/cni"
`

// CRI returns crictl, which talks to the containerd of ctr as Kubernetes does.
func CRI(t *testing.T, ctr *Tool) *Tool {
	t.Helper()
	c := Find(t, "crictl")
	c.Dir = ctr.Dir
	socket := "unix://" + filepath.Join(c.Dir, "containerd.sock")
	c.Args = []string{"--runtime-endpoint", socket, "--image-endpoint", socket}
	return c
}
