//go:build real

package clients

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestTrust shows for each client that it refuses a registry whose certificate
// Caddy has made itself, and what makes it trust one.
func TestTrust(t *testing.T) {
	t.Parallel()
	srv := registry.HTTPS(t, "127.0.0.1", everybody)
	srv.Push(amd64, "app", "v1")
	ca := copyFile(t, srv.CA, filepath.Join(t.TempDir(), "ca.crt"))
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	ref := srv.Ref("app", "v1")
	dir, file, env := []string{"--cert-dir", filepath.Dir(ca)}, []string{"--ca-file", ca}, "SSL_CERT_FILE="+ca

	for name, client := range map[string]struct {
		args  []string // what it is told to do
		first []string // what it is told before, to trust
		flags []string // or with it
		env   string   // or by its environment
	}{
		"buildah":  {args: []string{"pull", "docker://" + ref}, flags: dir},
		"cosign":   {args: []string{"tree", ref}, flags: []string{"--registry-cacert", ca}},
		"crane":    {args: []string{"manifest", ref}, env: env},
		"helm":     {args: []string{"push", "tiny-0.1.0.tgz", "oci://" + srv.Host + "/charts"}, flags: file},
		"notation": {args: []string{"list", ref}, env: env},
		"oras":     {args: []string{"pull", "--plain-http=false", ref}, flags: file},
		"podman":   {args: []string{"pull", ref}, flags: dir},
		"regctl":   {args: []string{"manifest", "get", ref}, first: []string{"registry", "set", "--cacert", string(pem), srv.Host}},
		"skopeo":   {args: []string{"inspect", "docker://" + ref}, flags: dir},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := program(t, name)
			denied(t, c, "x509", client.args...)
			c.Env = append(c.Env, client.env)
			if client.first != nil {
				c.Run(client.first...)
			}
			c.Run(slices.Insert(client.args, 1, client.flags...)...)
		})
	}
}

// program returns a client that is ready for what it is told to do above.
func program(t *testing.T, name string) *tool.Tool {
	t.Helper()
	switch name {
	case "podman":
		return tool.Podman(t)
	case "buildah":
		return tool.Buildah(t)
	}
	c := tool.Find(t, name)
	if name == "helm" {
		writeFile(t, c.Dir, "tiny/Chart.yaml", "apiVersion: v2\nname: tiny\nversion: 0.1.0\n")
		c.Run("package", "tiny")
	}
	return c
}

// TestTrustDocker has docker reach the registry as it does across a network: by
// an address that is not on loopback, where docker trusts every certificate.
// The address is one for documentation; a proxy leads from it to this machine.
func TestTrustDocker(t *testing.T) {
	t.Parallel()
	srv := registry.HTTPS(t, "192.0.2.1", everybody)
	proxy := httptest.NewServer(tool.Tunnel(func(string) string { return srv.Address }))
	t.Cleanup(proxy.Close)
	docker := tool.Docker(t, "HTTPS_PROXY="+proxy.URL)
	srv.Push(large, "app", "v1")
	denied(t, docker, "x509: certificate signed by unknown authority", "pull", srv.Ref("app", "v1"))

	copyFile(t, srv.CA, filepath.Join(docker.Dir, "etc/certs.d", srv.Host, "ca.crt"))
	docker.Run("pull", srv.Ref("app", "v1"))
	wantImage(t, docker, srv.Ref("app", "v1"), large)
	docker.Run("tag", srv.Ref("app", "v1"), srv.Ref("pushed", "v1"))
	docker.Run("push", srv.Ref("pushed", "v1"))
	verified(t, srv, "pushed", "v1")
}

func TestTrustBuildKit(t *testing.T) {
	t.Parallel()
	srv := registry.HTTPS(t, "127.0.0.1", everybody)
	srv.Push(amd64, "base", "v1")
	b := tool.BuildKit(t, srv.Host, "http = false")
	writeContext(t, b, srv.Ref("base", "v1"))
	denied(t, b, "x509", buildImage(srv.Ref("app", "v1"))...)

	b = tool.BuildKit(t, srv.Host, fmt.Sprintf("http = false\nca = [%q]", srv.CA))
	writeContext(t, b, srv.Ref("base", "v1"))
	b.Run(buildImage(srv.Ref("app", "v1"))...)
	verified(t, srv, "app", "v1")
}
