//go:build real

package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// A layer of so many files.
const (
	files    = 600
	fileSize = 2000
)

// TestPartialPull pulls an image whose layer is like one that podman has, but for
// every fourth file. Of layers packed as zstd:chunked, podman asks for the parts
// it lacks, in requests for up to 1,024 ranges.
func TestPartialPull(t *testing.T) {
	t.Parallel()
	srv := registry.Config(t, logged)
	pusher, puller := tool.Podman(t), tool.PartialPodman(t)
	first := pushChunked(t, srv, pusher, "v1", func(i int) int { return i })
	second := pushChunked(t, srv, pusher, "v2", func(i int) int { return i + i%4/3*files })

	puller.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("app", "v1"))
	wantTree(t, puller, srv.Ref("app", "v1"), first)
	asked := len(srv.Requests())
	puller.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("app", "v2"))
	wantTree(t, puller, srv.Ref("app", "v2"), second)

	ranges, sent := 0, 0
	for _, r := range srv.Requests()[asked:] {
		if r.Operation == "get-blob" {
			ranges = max(ranges, strings.Count(strings.Join(r.Header["Range"], ""), "-"))
			sent += r.Size
		}
	}
	if ranges < files/4 || sent > files*fileSize/2 {
		t.Fatalf("podman asked for %d ranges and was sent %d bytes, want %d and less than half of the layer", ranges, sent, files/4)
	}
}

// pushChunked pushes an image of one layer, packed as zstd:chunked, and returns
// its files. seed says what is in each.
func pushChunked(t *testing.T, srv *registry.Server, podman *tool.Tool, tag string, seed func(i int) int) []image.File {
	t.Helper()
	// Without an entry for the folder, podman may copy a file before there is one,
	// and then pulls everything.
	layer := []image.File{{Name: "srv/"}}
	for i := range files {
		layer = append(layer, image.File{Name: fmt.Sprintf("srv/file%d", i), Content: image.Bytes(uint64(seed(i)), fileSize)})
	}
	podman.Stdin = string(image.Tar(layer...))
	podman.Run("import", "-", "localhost/app:"+tag)
	podman.Run("push", "--quiet", "--tls-verify=false", "--compression-format", "zstd:chunked", "localhost/app:"+tag, srv.Ref("app", tag))
	verified(t, srv, "app", tag)
	return layer[1:]
}

// wantTree fails the test unless an image of podman has these files.
func wantTree(t *testing.T, podman *tool.Tool, ref string, want []image.File) {
	t.Helper()
	root := strings.TrimSpace(podman.Run("image", "mount", ref))
	defer podman.Run("image", "umount", ref)
	for _, f := range want {
		got, err := os.ReadFile(filepath.Join(root, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(f.Content) {
			t.Fatalf("%s of %s has %d bytes, which aren't those that were pushed", f.Name, ref, len(got))
		}
	}
}
