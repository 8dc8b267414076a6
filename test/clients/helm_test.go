//go:build real

package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

func TestHelm(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	helm := tool.Find(t, "helm")
	writeFile(t, helm.Dir, "tiny/Chart.yaml", "apiVersion: v2\nname: tiny\nversion: 0.1.0\n")
	writeFile(t, helm.Dir, "tiny/templates/config.yaml", "kind: ConfigMap\n")
	for _, version := range []string{"0.1.0", "0.2.0"} {
		helm.Run("package", "tiny", "--version", version)
		helm.Run("push", "--plain-http", "tiny-"+version+".tgz", "oci://"+srv.Host+"/charts")
		if _, err := srv.Repository("charts/tiny").Verify(t.Context(), version); err != nil {
			t.Fatal(err)
		}
	}

	pulled := filepath.Join(helm.Dir, "pulled")
	if err := os.Mkdir(pulled, 0o750); err != nil {
		t.Fatal(err)
	}
	chart := "oci://" + srv.Host + "/charts/tiny"
	helm.Run("pull", "--plain-http", chart, "--version", "0.1.0", "--destination", pulled)
	sameFile(t, filepath.Join(pulled, "tiny-0.1.0.tgz"), filepath.Join(helm.Dir, "tiny-0.1.0.tgz"))
	if out := helm.Run("template", "name", "--plain-http", chart); !strings.Contains(out, "kind: ConfigMap") {
		t.Fatalf("the template is %q", out)
	}
	// helm lists the tags to find the newest version, and the newest of a range.
	for constraint, want := range map[string]string{">0.0.0": "version: 0.2.0", "<0.2.0": "version: 0.1.0"} {
		if out := helm.Run("show", "chart", "--plain-http", chart, "--version", constraint); !strings.Contains(out, want) {
			t.Fatalf("version %q shows %q, want %s", constraint, out, want)
		}
	}

	// helm has no command to delete a chart; its documentation leaves that to others.
	regctl := tool.Find(t, "regctl", "--host", "reg="+srv.Host+",tls=disabled")
	equal(t, regctl.Lines("tag", "ls", srv.Host+"/charts/tiny"), "0.1.0", "0.2.0")
	regctl.Run("tag", "delete", srv.Ref("charts/tiny", "0.2.0"))
	if out := helm.Run("show", "chart", "--plain-http", chart); !strings.Contains(out, "version: 0.1.0") {
		t.Fatalf("after the deletion of 0.2.0 the newest chart is %q", out)
	}
	if _, err := helm.Try("pull", "--plain-http", chart, "--version", "0.2.0"); err == nil {
		t.Fatal("a deleted version can be pulled")
	}
}
