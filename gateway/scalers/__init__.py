"""For those who keep their own scaler: our numbers, as HPA and KEDA ask for them."""
