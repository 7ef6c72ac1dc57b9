// vcsim serves govmomi's simulated vCenter, as the program of that name does, with one
// addition: faults can be injected while it runs, by POST to /simulator/faults.
// The simulator is patched; the head of each file in ../patches says what it changes and why.
//
// It is built here because the simulator's module is what the Go module proxies carry.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"

	_ "github.com/vmware/govmomi/pbm/simulator"
	_ "github.com/vmware/govmomi/vapi/cluster/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

type options struct {
	listen, username, password string
	certificate, key           string
	methodDelay, load          string
	instanceUUID               string
}

func main() {
	model := simulator.VPX()
	opts := parseFlags(model)

	delays, err := parseMethodDelay(opts.methodDelay)
	if err != nil {
		log.Fatalf("-method-delay: %s", err)
	}
	model.DelayConfig.MethodDelay = delays
	simulator.TaskDelay.MethodDelay = delays

	if err := create(model, opts.load); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()

	certificate, err := tls.LoadX509KeyPair(opts.certificate, opts.key)
	if err != nil {
		log.Fatalf("-tlscert, -tlskey: %s", err)
	}
	service := model.Service
	if opts.instanceUUID != "" {
		instance := service.Context.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance)
		instance.Content.About.InstanceUuid = opts.instanceUUID
	}
	service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	service.RegisterEndpoints = true
	service.Listen = &url.URL{
		Host: opts.listen,
		User: url.UserPassword(opts.username, opts.password),
	}
	service.ServeMux = http.NewServeMux()
	service.ServeMux.Handle("/simulator/faults", faults{service})

	server := service.NewServer()
	defer server.Close()
	fmt.Printf("listening on https://%s/sdk\n", server.URL.Host)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}

// parseFlags has vcsim's own flag names.
func parseFlags(model *simulator.Model) options {
	var opts options
	about := &model.ServiceContent.About
	flag.IntVar(&model.Datacenter, "dc", model.Datacenter, "datacenters")
	flag.IntVar(&model.Cluster, "cluster", model.Cluster, "clusters per datacenter")
	flag.IntVar(&model.ClusterHost, "host", model.ClusterHost, "hosts per cluster")
	flag.IntVar(&model.Host, "standalone-host", model.Host, "hosts outside clusters")
	flag.IntVar(&model.Datastore, "ds", model.Datastore, "datastores")
	flag.IntVar(&model.Machine, "vm", model.Machine, "virtual machines per resource pool")
	flag.IntVar(&model.Pool, "pool", model.Pool, "resource pools per cluster")
	flag.IntVar(&model.App, "app", model.App, "vApps per cluster")
	flag.IntVar(&model.Pod, "pod", model.Pod, "datastore clusters per datacenter")
	flag.IntVar(&model.Portgroup, "pg", model.Portgroup, "distributed port groups")
	flag.IntVar(&model.Folder, "folder", model.Folder, "datacenters that are within a folder")
	flag.BoolVar(&model.Autostart, "autostart", model.Autostart, "power on the virtual machines")
	flag.StringVar(&about.ApiVersion, "api-version", about.ApiVersion, "API version")
	flag.StringVar(&opts.instanceUUID, "instance-uuid", "", "about.instanceUuid, one for all else")
	flag.IntVar(&model.DelayConfig.Delay, "delay", 0, "delay of each call, in ms")
	flag.Float64Var(&model.DelayConfig.DelayJitter, "delay-jitter", 0, "spread of the delay, 0 to 1")
	flag.StringVar(&opts.methodDelay, "method-delay", "", "delay of calls or tasks, in ms: name:ms,...")
	flag.StringVar(&opts.load, "load", "", "folder with a saved inventory")
	flag.StringVar(&opts.listen, "l", "127.0.0.1:8989", "listen address")
	flag.StringVar(&opts.username, "username", "user", "login")
	flag.StringVar(&opts.password, "password", "pass", "password of the login")
	flag.StringVar(&opts.certificate, "tlscert", "", "file with the server's certificate")
	flag.StringVar(&opts.key, "tlskey", "", "file with its private key")
	flag.Parse()
	return opts
}

func create(model *simulator.Model, folder string) error {
	if folder != "" {
		return model.Load(folder)
	}
	return model.Create()
}

func parseMethodDelay(text string) (map[string]int, error) {
	delays := make(map[string]int)
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(strings.TrimSpace(part), ":")
		milliseconds, err := strconv.Atoi(value)
		if err != nil {
			return nil, fmt.Errorf("%q is not name:milliseconds", part)
		}
		delays[name] = milliseconds
	}
	return delays, nil
}
