package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// faults lets a test break calls of a running simulator: POST adds a rule, DELETE removes all.
type faults struct {
	service *simulator.Service
}

// faultRule is the body of a POST. Empty names match everything.
type faultRule struct {
	Method      string  `json:"method"`      // such as PowerOnVM_Task
	ObjectType  string  `json:"object_type"` // such as VirtualMachine
	ObjectName  string  `json:"object_name"` // as in the inventory
	Fault       string  `json:"fault"`       // a fault of the vSphere API, such as NoPermission
	Message     string  `json:"message"`     // what the fault says
	Delay       int     `json:"delay"`       // milliseconds before the answer
	MaxCount    int     `json:"max_count"`   // 0: every time
	Probability float64 `json:"probability"` // 0 means 1

	// TaskProgress makes the method's task fail instead of the call, at this percentage.
	TaskProgress *int32 `json:"task_progress"`
}

func (f faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		if err := f.add(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
		f.service.ClearFaultRules()
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f faults) add(r *http.Request) error {
	rule := faultRule{Method: "*", ObjectType: "*", ObjectName: "*", Probability: 1}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rule); err != nil {
		return err
	}
	fault, err := faultByName(rule.Fault)
	if err != nil {
		return err
	}
	f.service.AddFaultRule(&simulator.FaultInjectionRule{
		MethodName:   rule.Method,
		ObjectType:   rule.ObjectType,
		ObjectName:   rule.ObjectName,
		Probability:  rule.Probability,
		FaultType:    simulator.FaultTypeCustom,
		Fault:        fault,
		Message:      rule.Message,
		Delay:        rule.Delay,
		MaxCount:     rule.MaxCount,
		TaskProgress: rule.TaskProgress,
		Enabled:      true,
	})
	return nil
}

func faultByName(name string) (types.BaseMethodFault, error) {
	kind, ok := types.TypeFunc()("vim25:" + name)
	if !ok {
		kind, ok = types.TypeFunc()(name)
	}
	if !ok {
		return nil, fmt.Errorf("the vSphere API has no fault %q", name)
	}
	fault, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !ok {
		return nil, fmt.Errorf("%s is not a fault", name)
	}
	return fault, nil
}
