{{/* Labels of everything that belongs to the router. */}}
{{- define "bbr.labels" -}}
app: {{ .Values.bbr.name }}
app.kubernetes.io/name: bbr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which the router's pods are found; the Go routers' chart has the first alone. */}}
{{- define "bbr.selector" -}}
app: {{ .Values.bbr.name }}
{{- end }}

{{/* registry/repository:tag, or the older hub/name:tag. */}}
{{- define "bbr.image" -}}
{{- $image := .Values.bbr.image -}}
{{- $where := $image.hub | default $image.registry -}}
{{- $what := $image.name | default $image.repository -}}
{{- if $where }}{{ $where }}/{{ end }}{{ $what }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" if the ext_proc port serves TLS; the Go routers' chart has it among the flags. */}}
{{- define "bbr.secure" -}}
{{- $flags := .Values.bbr.flags -}}
{{- $secure := toString (ternary (index $flags "secure-serving") .Values.bbr.secureServing (hasKey $flags "secure-serving")) -}}
{{- if eq $secure "auto" -}}
{{- not (has .Values.provider.name (list "envoy-gateway" "kgateway" "agentgateway")) -}}
{{- else -}}
{{- $secure -}}
{{- end -}}
{{- end }}

{{/* "true" if the router compares its table with HTTPRoutes; it knows them by the usual headers only. */}}
{{- define "bbr.discovers" -}}
{{- $flags := .Values.bbr.flags -}}
{{- and .Values.bbr.discoverRoutes (not .Values.bbr.plugins) (not .Values.bbr.customConfig) (not (hasKey $flags "model-header")) (not (hasKey $flags "base-model-header")) -}}
{{- end }}

{{/* What models' routes point at: pools or services. Which gateway knows InferencePools, if values don't say. */}}
{{- define "bbr.backends" -}}
{{- $auto := ternary "services" "pools" (eq .Values.provider.name "kgateway") -}}
{{- $backends := ternary $auto .Values.backends (eq .Values.backends "auto") -}}
{{- if and (eq $backends "services") (eq .Values.provider.name "gke") -}}
{{- fail "backends: services is not for gke, whose health checks and timeouts are the InferencePools'" -}}
{{- end -}}
{{- $backends -}}
{{- end }}

{{- define "bbr.serviceAccount" -}}
{{ printf "%s-%s" .Values.bbr.name .Release.Name | trunc 56 | trimSuffix "-" }}
{{- end }}

{{/* The name that a gateway's cluster of Service .name has in Istio, and its certificate. */}}
{{- define "bbr.host" -}}
{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* All entries of models, whole, as a YAML list under the key models; they must not share a name. */}}
{{- define "bbr.models" -}}
{{- $models := list -}}
{{- $seen := dict -}}
{{- range .Values.models -}}
{{- $model := include "bbr.model" (dict "model" .) | fromYaml -}}
{{- range $what := list (printf "name %s" $model.name) (printf "pool %s" $model.pool.name) (printf "endpoint picker %s" $model.epp.name) (printf "route %s" $model.route.name) (printf "baseModel %s" $model.baseModel) -}}
{{- if hasKey $seen $what -}}
{{- fail (printf "models: two entries have the %s; give one of them another, since each model needs its own" $what) -}}
{{- end -}}
{{- $_ := set $seen $what true -}}
{{- end -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- toYaml (dict "models" $models) -}}
{{- end }}

{{/* Labels of what belongs to one model: .model, .root. */}}
{{- define "bbr.modelLabels" -}}
app.kubernetes.io/name: {{ .model.name }}
app.kubernetes.io/part-of: {{ .root.Values.bbr.name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The Gateway, as policies name it. */}}
{{- define "bbr.gateway" -}}
group: gateway.networking.k8s.io
kind: Gateway
name: {{ .Values.inferenceGateway.name }}
{{- end }}

{{/* Half of a quantity of bytes, such as 1Gi, 512Mi or a plain number. */}}
{{- define "bbr.halfBytes" -}}
{{- $text := ternary (toString .) (int64 . | toString) (kindIs "string" .) -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- if not (hasKey $units $unit) -}}
{{- fail (printf "bbr.resources.limits.memory: %s has none of the units Ki, Mi, Gi, Ti, k, M, G, T" $text) -}}
{{- end -}}
{{- div (mulf (float64 (trimSuffix $unit $text)) (get $units $unit) | int64) 2 -}}
{{- end }}

{{/* A flag's value. Helm reads each number as a float, and would write 33554432 as 3.3554432e+07. */}}
{{- define "bbr.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Flags of bbr.flags; those that the chart gives by itself are refused, since two of one kind would say different things. */}}
{{- define "bbr.flags" -}}
{{- $own := dict "grpc-port" "bbr.port" "grpc-health-port" "bbr.healthCheckPort" "metrics-port" "bbr.metricsPort" "drain-seconds" "bbr.drainSeconds" "drain-delay-seconds" "bbr.drainDelaySeconds" "discover-routes" "bbr.discoverRoutes" "tls-cert" "bbr.tls.secretName" "tls-key" "bbr.tls.secretName" "tracing" "bbr.tracing.enabled" "config-file" "bbr.customConfig" "config-text" "bbr.customConfig" "kubernetes" "the chart" "namespace" "bbr.multiNamespace" -}}
{{- range $name, $value := .Values.bbr.flags }}
{{- if hasKey $own $name }}
{{- fail (printf "bbr.flags.%s: this flag is set by %s" $name (get $own $name)) }}
{{- end }}
{{- if ne $name "secure-serving" }}
- {{ printf "--%s=%s" $name (include "bbr.text" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The configuration of the payload processor, "" without one. What the router would refuse by name is refused here. */}}
{{- define "bbr.config" -}}
{{- with .Values.bbr.customConfig -}}
{{- if $.Values.bbr.plugins -}}
{{- fail "bbr.customConfig and bbr.plugins contradict each other: leave one out" -}}
{{- end -}}
{{- $known := list "body-field-to-header" "base-model-to-header" "single-profile-picker" -}}
{{- range .plugins -}}
{{- if not (has .type $known) -}}
{{- fail (printf "bbr.customConfig.plugins: %s is of the type %s, which this router does not have; known: %s" (.name | default .type) .type (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- merge (dict) . (dict "apiVersion" "llm-d.ai/v1alpha1" "kind" "PayloadProcessorConfig") | toYaml -}}
{{- end -}}
{{- end }}

{{/* Variables of the router's container, as a YAML list under the key env; no two may have one name. */}}
{{- define "bbr.env" -}}
{{- $bbr := .Values.bbr -}}
{{- $env := list -}}
{{- if not $bbr.multiNamespace -}}
{{- $env = append $env (dict "name" "NAMESPACE" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.namespace"))) -}}
{{- end -}}
{{- $env = concat $env $bbr.env -}}
{{- if $bbr.tracing.enabled -}}
{{- $sampling := $bbr.tracing.sampling -}}
{{- range $pair := list (list "OTEL_SERVICE_NAME" $bbr.tracing.otelServiceName) (list "OTEL_EXPORTER_OTLP_ENDPOINT" $bbr.tracing.otelExporterEndpoint) (list "OTEL_TRACES_EXPORTER" "otlp") (list "OTEL_TRACES_SAMPLER" $sampling.sampler) (list "OTEL_TRACES_SAMPLER_ARG" $sampling.samplerArg) -}}
{{- $env = append $env (dict "name" (index $pair 0) "value" (index $pair 1)) -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $env -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "bbr.env: %s stands twice, or is set by the chart" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- toYaml (dict "env" $env) -}}
{{- end }}

{{/* A model with all its names, as YAML: what values leave out follows from its base model. */}}
{{- define "bbr.model" -}}
{{- $given := .model -}}
{{- $base := required "models: each entry needs a baseModel" $given.baseModel -}}
{{- /* What follows the last slash, as a DNS label. */ -}}
{{- $label := regexReplaceAll "[^a-z0-9]+" ($base | lower | splitList "/" | last) "-" | trimAll "-" -}}
{{- $name := $given.name | default (regexReplaceAll "^([0-9]|$)" $label "m-${1}" | trunc 40 | trimSuffix "-") -}}
{{- $defaults := dict
      "name" $name
      "baseModel" $base
      "adapters" list
      "pool" (dict "create" true "name" (printf "%s-pool" $name) "targetPort" 8000 "healthPath" "/health" "timeoutSeconds" 300)
      "epp" (dict "create" true "name" (printf "%s-epp" $name) "replicas" 1)
      "route" (dict "create" true "name" (printf "%s-model-route" $name) "path" "/" "header" "base") -}}
{{- toYaml (mergeOverwrite $defaults (deepCopy $given)) -}}
{{- end }}

{{/* What the catch-all answers, in OpenAI's shape. */}}
{{- define "bbr.noModel" -}}
{"error":{"message":"The request names no model that is served here.","type":"invalid_request_error","param":"model","code":"model_not_found"}}
{{- end }}

{{/* The pickers' EndpointPickerConfig: that of the values, or the one that the image's project reads. */}}
{{- define "bbr.pickerConfig" -}}
{{- $epp := .Values.epp -}}
{{- $gie := ternary (contains "gateway-api-inference-extension" $epp.image) (eq $epp.configApi "gie") (eq $epp.configApi "auto") -}}
{{- $epp.config | default (.Files.Get (ternary "files/default-plugins-gie.yaml" "files/default-plugins.yaml" $gie)) -}}
{{- end }}
