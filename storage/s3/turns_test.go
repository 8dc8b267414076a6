package s3

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// distant is a bucket that takes its time: a call takes effect half-way.
type distant struct{ *fake }

const distance = 300 * time.Millisecond

func (d distant) get(ctx context.Context, what getRequest) (*gotten, error) {
	time.Sleep(distance / 2)
	defer time.Sleep(distance / 2)
	return d.fake.get(ctx, what)
}

func (d distant) put(ctx context.Context, what putRequest) (string, error) {
	time.Sleep(distance / 2)
	defer time.Sleep(distance / 2)
	return d.fake.put(ctx, what)
}

// A process whose clients push to a repository all the time keeps no other one from
// changing it.
func TestTurns(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, first *Store, f *fake) {
		d := pushText(t, first, 10)
		busy, other := openOn(t, distant{f}, Options{}), openOn(t, distant{f}, Options{})
		push := func(s *Store, tag string) {
			m := imageOf(t, tag, d)
			if err := storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag(tag)}}); err != nil {
				t.Error(err)
			}
		}
		var clients sync.WaitGroup
		stop := make(chan struct{})
		for c := range 4 {
			clients.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						push(busy, fmt.Sprintf("busy-%d-%d", c, i))
					}
				}
			})
		}
		for i := range 20 {
			time.Sleep(distance / 3)
			push(other, fmt.Sprintf("other-%d", i))
		}
		close(stop)
		clients.Wait()
	})
}
