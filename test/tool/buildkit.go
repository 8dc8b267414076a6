//go:build real

package tool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BuildKit starts buildkitd, which keeps everything in Dir, and returns
// buildctl, which talks to it. how says how it reaches the registry at host, as
// its configuration does: 'http = true'.
func BuildKit(t *testing.T, host, how string) *Tool {
	t.Helper()
	daemon, c := Find(t, "buildkitd"), Find(t, "buildctl")
	daemon.Dir = c.Dir
	config := filepath.Join(c.Dir, "buildkitd.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, buildkitConfig, c.Dir, host, how), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := "unix://" + filepath.Join(c.Dir, "buildkitd.sock")
	c.Args = []string{"--addr", socket}
	c.await(daemon.Start("--config", config, "--addr", socket), "debug", "workers")
	return c
}

const buildkitConfig = `root = "%[1]s/root"
[worker.oci]
	snapshotter = "native"
	networkMode = "host"
[worker.containerd]
	enabled = false
[cdi]
	disabled = true
[registry."%[2]s"]
	%[3]s
`
