package admin

import "github.com/prometheus/client_golang/prometheus"

// reloadGauges are those of the Prometheus family of programs, under our name.
func reloadGauges(registerer prometheus.Registerer) (successful, when prometheus.Gauge) {
	successful = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "larder_config_last_reload_successful",
		Help: "Whether the last reload of the policy was successful (1) or the one before it stayed (0).",
	})
	when = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "larder_config_last_reload_success_timestamp_seconds",
		Help: "Time of the last successful reload of the policy, in seconds since the epoch.",
	})
	if registerer != nil {
		registerer.MustRegister(successful, when)
	}
	return successful, when
}
