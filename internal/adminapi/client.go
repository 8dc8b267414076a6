package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

// Client asks a running Caddy about one registry.
type Client struct {
	// Do sends a request without a body to the admin endpoint; path is that of the URL,
	// with its query. What isn't answered with success is an error. The caller closes
	// the answer's body. Required.
	Do func(method, path string) (*http.Response, error)

	// Registry is the registry's name. Default: the first question finds out what the
	// only one is called, and fails if there are several.
	Registry string

	// Prefix is the path of the registry whose store jobs are about. Default: empty,
	// that of all that's under none.
	Prefix string
}

// Post has something done to the registry that is answered with nothing: path is what
// comes after its name.
func (c *Client) Post(path string) error {
	if err := c.find(); err != nil {
		return err
	}
	resp, err := c.Do(http.MethodPost, Path+"/"+c.Registry+path)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Round begins a round of a job, one that changes nothing if it's dry, and returns what
// came of it once it has ended. If ctx ends before, the round goes on.
func (c *Client) Round(ctx context.Context, job string, dry bool) (*tasks.Report, error) {
	if err := c.find(); err != nil {
		return nil, err
	}
	query := ""
	if dry {
		query = "?dry_run"
	}
	var begun tasks.Report
	if err := c.ask(http.MethodPost, job+query, &begun); err != nil {
		return nil, err
	}
	return c.wait(ctx, job, begun.ID)
}

// lookEvery is how often wait looks if a round has ended.
const lookEvery = 200 * time.Millisecond

// wait returns what came of a round, once it has ended.
func (c *Client) wait(ctx context.Context, job, id string) (*tasks.Report, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var s tasks.Status
		if err := c.ask(http.MethodGet, job, &s); err != nil {
			return nil, err
		}
		if s.Last != nil && s.Last.ID == id {
			return s.Last, nil
		}
		if s.Current == nil || s.Current.ID != id {
			return nil, errors.New("the round was followed by another one; the log says what came of it")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.New("not waiting any more; the round goes on")
		}
	}
}

// FindingsOf asks what the last round of a job has found.
func FindingsOf[T any](c *Client, job string) (found Findings[T], err error) {
	if err := c.find(); err != nil {
		return found, err
	}
	err = c.ask(http.MethodGet, job+"/findings", &found)
	return found, err
}

// find fills in the name of the only registry.
func (c *Client) find() error {
	if c.Registry != "" {
		return nil
	}
	var all []struct {
		Name string `json:"name"`
	}
	if err := c.get(http.MethodGet, Path, &all); err != nil {
		return err
	}
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
	}
	if len(names) != 1 {
		return fmt.Errorf("there are %d registries (%s): say which one with --name", len(names), strings.Join(names, ", "))
	}
	c.Registry = names[0]
	return nil
}

// ask asks about a job of the store that's meant.
func (c *Client) ask(method, job string, to any) error {
	path := Path + "/" + c.Registry + "/jobs/" + job
	if c.Prefix != "" {
		sep := "?"
		if strings.Contains(path, sep) {
			sep = "&"
		}
		path += sep + "path=" + url.QueryEscape(c.Prefix)
	}
	return c.get(method, path, to)
}

func (c *Client) get(method, path string, to any) error {
	resp, err := c.Do(method, path)
	if err != nil {
		return err
	}
	err = json.NewDecoder(resp.Body).Decode(to)
	return errors.Join(err, resp.Body.Close())
}
