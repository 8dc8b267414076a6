package scrub_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// Who mustn't change anything any more changes nothing: neither what is bad, nor the
// pool, nor what waits for its bytes. A dry run goes on.
func TestRoundIsStoppedBeforeItChanges(t *testing.T) {
	t.Parallel()
	stop := scrub.Options{Stop: func() error { return errStopped }}
	for name, begin := range map[string]func(w *world) scrub.Place{
		"what is damaged": func(w *world) scrub.Place {
			w.rot("a", w.image("a", "v1", "x").Blobs[0].Digest)
			return scrub.Place{}
		},
		"a lost pool": func(w *world) scrub.Place {
			w.image("a", "v1", large("x"))
			w.losePool()
			return scrub.Place{}
		},
		"a repair": func(w *world) scrub.Place {
			w.rot("a", w.image("a", "v1", "x").Blobs[0].Digest)
			w.scrub(scrub.Options{})
			w.image("b", "v1", "x")
			mending, err := scrub.ParsePlace("*")
			check(t, err)
			return mending
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			from := begin(w)
			before := w.files()
			if err := w.try(from, stop); !errors.Is(err, errStopped) {
				t.Fatalf("the round ends with %v", err)
			}
			w.wantFound()
			if after := w.files(); !slices.Equal(before, after) {
				t.Fatalf("it made of\n%v\nthis:\n%v", before, after)
			}
			w.scrub(scrub.Options{DryRun: true, Stop: stop.Stop})
			check(t, w.try(from, scrub.Options{}))
			if after := w.files(); slices.Equal(before, after) {
				t.Fatal("without the stop nothing changes either")
			}
		})
	}
}
