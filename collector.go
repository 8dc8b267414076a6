package ociregistry

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-oci/oci-registry/storage"
)

// collector shows Prometheus one registry of one configuration: what was counted
// there, and how its store does at this moment. Each configuration of Caddy has a
// prometheus.Registry of its own, so a registry that's in it no more isn't shown.
type collector struct{ registry *Registry }

var _ prometheus.Collector = collector{}

// What a collector looks up when it's asked.
var (
	readyDesc = gauge("ready",
		"1 if the registry can be read and written, else 0.")
	openUploadsDesc = gauge("open_uploads",
		"Upload sessions that were begun and neither finished nor cancelled, those that were given up included.")
	freeDesc = gauge("filesystem_free_bytes",
		"Bytes that Caddy may still write to the file system of the registry's root.")
	usedDesc = gauge("filesystem_used_bytes",
		"Bytes used on the file system of the registry's root, by whatever is on it.")
)

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(metricName(name), help, nil, nil)
}

// register shows r to those who ask for the metrics of its configuration.
func (r *Registry) register(to prometheus.Registerer) error {
	return prometheus.WrapRegistererWith(prometheus.Labels{"registry": r.name}, to).Register(collector{r})
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.registry.meters.all() {
		m.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{readyDesc, openUploadsDesc, freeDesc, usedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What isn't known isn't shown.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.registry.meters.all() {
		m.Collect(ch)
	}
	ctx := context.Background()
	ready := 1.0
	err := c.registry.withStore(ctx, func(s storage.Store) error {
		collectUse(ctx, s, ch)
		return s.Ready(ctx)
	})
	if err != nil {
		ready = 0
	}
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, ready)
}

// collectUse shows what a store is able to tell of its use.
func collectUse(ctx context.Context, s storage.Store, ch chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	if counter, ok := storage.As[storage.UploadCounter](s); ok {
		if n, err := counter.OpenUploads(ctx); err == nil {
			show(openUploadsDesc, float64(n))
		}
	}
	if measurer, ok := storage.As[storage.Measurer](s); ok {
		if space, err := measurer.Space(ctx); err == nil {
			show(freeDesc, float64(space.Free))
			show(usedDesc, float64(space.Used))
		}
	}
}
