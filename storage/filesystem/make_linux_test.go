package filesystem_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// Of two who push one small blob at once the second finds that it's there when it makes
// it, and writes nothing over what somebody may rely on by then.
func TestBlobThatSomebodyElseHasJustMade(t *testing.T) {
	t.Parallel()
	root, rec, content := memoryDir(t), new(recorder), ""
	s := openFaulty(t, root, filesystem.Options{Recheck: -1}, func(step vfs.Step) error {
		if step.Op == "make" && content != "" {
			write(t, content, root, step.Name)
		}
		return rec.step(step)
	})
	r := repository(t, s, "a")
	r.push(image(t, "first"), "v0")
	rec.reset()
	content = "content"
	d := r.pushBlob(content)
	m := image(t, "m", d)
	content = string(m.Raw)
	r.push(m, "v1")
	for _, name := range append(rec.ops("rename"), rec.ops("openfile")...) {
		if strings.HasPrefix(name, "_uploads/") || strings.Contains(name, "blobs/") && strings.Contains(name, "tmp-") {
			t.Errorf("%s was written", name)
		}
	}
	if got := rec.ops("rename"); slices.ContainsFunc(got, func(name string) bool { return strings.Contains(name, "blobs/") }) {
		t.Errorf("renamed %v", got)
	}
	r.wantBlob("content")
	r.want("v1", m)
}
