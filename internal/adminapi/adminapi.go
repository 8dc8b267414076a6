// Package adminapi is the registry's part of Caddy's admin API: what whoever serves it and
// whoever asks it agree on, and a client.
package adminapi

// Path is where the list of all registries is. What is about one is below it, by the
// registry's name.
const Path = "/oci_registry/registries"

// The jobs that a store may have, by the names that they have in the API.
const (
	GC    = "gc"
	Scrub = "scrub"
)

// Findings is what the API says of what a round of a job has found.
type Findings[T any] struct {
	// Findings are in the order in which they were found.
	Findings []T `json:"findings"`

	// More is how many there were beyond these.
	More int `json:"more"`
}
