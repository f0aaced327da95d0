"""The operator: Kopf handlers feed a mirror and a work queue; reconciling gathers facts, decides, acts."""
